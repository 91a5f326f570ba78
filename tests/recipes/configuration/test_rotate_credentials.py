"""rotate_credentials: the password changes, and nobody notices."""

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo
from psycopg_pool import ConnectionPool, PoolTimeout

from recipes.configuration.rotate_credentials import open_pool, rotate, write_private


@dataclass
class Bank:
    admin: psycopg.Connection
    role: str
    file: Path
    address: str  # of the role, without a password

    def rotate(self) -> None:
        rotate(self.admin, self.role, self.file)

    def set_password(self, password: str) -> None:
        """By hand, and not in the file."""
        change = sql.SQL("ALTER ROLE {} PASSWORD {}")
        self.admin.execute(change.format(sql.Identifier(self.role), password))

    def can_log_in(self, password: str) -> bool:
        try:
            psycopg.connect(self.address, password=password).close()
        except psycopg.OperationalError:
            return False
        return True

    def kill(self) -> None:
        """End the connections of the role, so that new ones are needed."""
        self.admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s",
            (self.role,),
        )


@pytest.fixture
def bank(postgresql, tmp_path) -> Iterator[Bank]:
    with psycopg.connect(postgresql, autocommit=True) as admin:
        role = f"app_{admin.info.dbname}"
        name = sql.Identifier(role)
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
        address = make_conninfo(postgresql, user=role, password=None)
        bank = Bank(admin, role, tmp_path / "password", address)
        bank.rotate()
        yield bank
        bank.kill()
        admin.execute(sql.SQL("DROP ROLE {}").format(name))


@pytest.fixture
def pool(bank) -> Iterator[ConnectionPool]:
    with open_pool(bank.address, bank.file.read_text) as pool:
        yield pool


def ask(pool) -> int:
    with pool.connection() as conn:
        return conn.execute("SELECT 6 * 7").fetchone()[0]


def test_rotates(bank):
    """The new password is in the file and logs in; the old one no longer does."""
    old = bank.file.read_text()
    bank.rotate()
    new = bank.file.read_text()
    assert bank.can_log_in(new)
    assert not bank.can_log_in(old)
    assert len(new) >= 40


def test_no_request_fails(bank):
    """Four threads ask without a pause while the password changes ten times and all
    connections are made anew each time: no request fails."""
    done, begun = threading.Event(), threading.Barrier(5)

    def work() -> int:
        answers = 0
        while not done.is_set():
            assert ask(pool) == 42
            answers += 1
            if answers == 1:
                begun.wait(60)
        return answers

    with (
        open_pool(bank.address, bank.file.read_text, wait=60) as pool,
        ThreadPoolExecutor(4) as threads,
    ):
        running = [threads.submit(work) for _ in range(4)]
        try:
            begun.wait(60)
            for _ in range(10):
                old = backends(bank)
                bank.rotate()
                pool.drain()
                wait_until(lambda: backends(bank) - old)
        finally:
            done.set()
        assert all(each.result(timeout=60) > 0 for each in running)


def backends(bank) -> set[int]:
    """The processes of the server that serve the role."""
    query = "SELECT pid FROM pg_stat_activity WHERE usename = %s"
    return {pid for (pid,) in bank.admin.execute(query, (bank.role,))}


def test_connections_outlive_the_change(bank, pool):
    """A connection that is open stays open: the transaction under way goes on."""
    with pool.connection() as conn:
        bank.rotate()
        assert conn.execute("SELECT 6 * 7").fetchone() == (42,)


def test_a_request_waits_while_file_and_server_differ(bank, pool, caplog):
    """The server has the new password and the file the old one, and every connection is
    gone: the request waits, and is served as soon as the file is there."""
    bank.set_password("new")
    bank.kill()
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor() as threads:
        answer = threads.submit(ask, pool)
        wait_until(lambda: "password authentication failed" in caplog.text)
        assert not answer.done()
        write_private(bank.file, "new")
        assert answer.result(timeout=60) == 42


def test_each_connection_reads_the_password(bank):
    """The password is read for each new connection, not once."""
    read = []

    def read_password() -> str:
        read.append(bank.file.read_text())
        return read[-1]

    with open_pool(bank.address, read_password) as pool:
        bank.rotate()
        pool.drain()
        wait_until(lambda: len({*read}) == 2)
        assert ask(pool) == 42


def test_old_connections_are_replaced_by_age(bank):
    """After max_lifetime, the connections with the old password are replaced."""
    with open_pool(bank.address, bank.file.read_text, max_lifetime=0.2) as pool:
        with pool.connection() as conn:
            first = conn.info.backend_pid
        bank.rotate()

        def is_new() -> bool:
            with pool.connection() as conn:
                return conn.info.backend_pid != first

        wait_until(is_new)
        assert ask(pool) == 42


def test_a_wrong_password_at_the_start(bank):
    """A password that is wrong from the start is an error within the time given, and
    the pool is closed."""
    threads = threading.active_count()
    with pytest.raises(PoolTimeout):
        open_pool(bank.address, lambda: "wrong", wait=0.5)
    assert threading.active_count() <= threads


def test_is_not_sent_in_clear(bank):
    """The server never sees the text of the password, not in the statement either: a
    log of all statements has only its hash."""
    trace = bank.file.with_name("trace")
    with trace.open("wb") as file:
        bank.admin.pgconn.trace(file.fileno())
        bank.rotate()
        bank.admin.pgconn.untrace()
    seen = trace.read_text("latin-1")
    assert "SCRAM-SHA-256$" in seen
    assert bank.file.read_text() not in seen


def test_the_file_is_private(bank):
    """Only the owner can read the file, and there is no other left."""
    assert bank.file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in bank.file.parent.iterdir()] == ["password"]


def test_a_change_that_is_refused(bank):
    """The server refuses: the file still holds the password that is valid, and the
    error does not show the new one."""
    old = bank.file.read_text()
    with pytest.raises(psycopg.OperationalError) as raised:
        rotate(bank.admin, "no_such_role", bank.file)
    assert bank.file.read_text() == old
    assert bank.can_log_in(old)
    assert bank.file.with_suffix(".new").read_text() not in str(raised.value)
    bank.rotate()  # and what was left is no obstacle
    assert bank.can_log_in(bank.file.read_text())


def test_no_password_shows(bank, caplog):
    """No password is in the log of a pool that cannot log in, nor in its statistics."""
    with open_pool(bank.address, bank.file.read_text) as pool, caplog.at_level(0):
        bank.set_password("hunter2")
        bank.kill()
        wait_until(lambda: "password authentication failed" in caplog.text, pool.check)
        shown = f"{caplog.text} {pool} {pool!r} {pool.get_stats()}"
        assert bank.file.read_text() not in shown
        assert "hunter2" not in shown


def wait_until(condition, meanwhile=lambda: None) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        meanwhile()
        time.sleep(0.01)


# --8<-- [start:wrong]
def open_as_often_copied(address, password):
    return ConnectionPool(f"{address} password={password}", min_size=1, open=True)


# --8<-- [end:wrong]


def test_often_copied_pool_keeps_the_old_password(bank, caplog):
    """Often copied: the pool keeps the password of its start. It works until the first
    new connection is needed, and then not at all."""
    old = bank.file.read_text()
    with open_as_often_copied(bank.address, old) as pool:
        assert ask(pool) == 42
        bank.rotate()
        assert ask(pool) == 42
        bank.kill()
        with caplog.at_level(logging.WARNING, "psycopg.pool"):
            with pytest.raises((psycopg.OperationalError, PoolTimeout)):
                ask(pool)
            with pytest.raises(PoolTimeout), pool.connection(timeout=0.5):
                pass


def test_often_copied_statement_shows_the_password(bank, postgresql):
    """Often copied, as `ALTER ROLE ... PASSWORD '...'`: the text of the password is in
    the statement, which logs and monitoring keep."""
    bank.set_password("hunter2")
    query = "SELECT query FROM pg_stat_activity WHERE pid = %s"
    with psycopg.connect(postgresql) as other:
        [[seen]] = other.execute(query, (bank.admin.info.backend_pid,)).fetchall()
    assert "hunter2" in seen
