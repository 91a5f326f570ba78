import threading
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors
from tenacity import RetryError, retry, stop_after_attempt

from recipes.services.retry_policy import call, order
from tests.recipes.services.serving import wait_for


@pytest.fixture
def orders(postgresql):
    """A connection to a database with a table, and a sequence that counts attempts."""
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute("CREATE TABLE orders (key uuid PRIMARY KEY)")
        conn.execute("CREATE TABLE visits (at timestamptz DEFAULT now())")
        conn.execute("CREATE SEQUENCE tries")
        yield conn


def visit(conn: psycopg.Connection) -> None:
    """Counts double when it is done twice."""
    conn.execute("SELECT nextval('tries')")
    conn.execute("INSERT INTO visits DEFAULT VALUES")


def visit_after(code: str, failures: int):
    """A visit that fails that often with that code, after it has written."""

    def work(conn: psycopg.Connection) -> None:
        visit(conn)
        conn.execute(f"""
            DO $$ BEGIN IF currval('tries') <= {failures} THEN
                RAISE 'forced' USING ERRCODE = '{code}';
            END IF; END $$
        """)

    return work


def one(conn: psycopg.Connection, query: str) -> int:
    (value,) = conn.execute(query).fetchone()
    return value


@pytest.mark.parametrize("code", ["40001", "40P01", "55P03"])
@pytest.mark.parametrize("repeatable", [True, False])
def test_rolled_back(orders, postgresql, code, repeatable):
    """A serialization failure, a deadlock, a lock not available: tried again, read or
    write, and done once."""
    call(postgresql, visit_after(code, 2), repeatable=repeatable, pause=0.001)
    assert one(orders, "SELECT last_value FROM tries") == 3
    assert one(orders, "SELECT count(*) FROM visits") == 1


@pytest.mark.parametrize("code", ["23505", "42601", "57014", "22P02"])
@pytest.mark.parametrize("repeatable", [True, False])
def test_an_answer_is_not_retried(orders, postgresql, code, repeatable):
    """A duplicate, a typo, a statement timeout, bad input: one attempt, the error."""
    with pytest.raises(errors.lookup(code)):
        call(postgresql, visit_after(code, 9), repeatable=repeatable, pause=0.001)
    assert one(orders, "SELECT last_value FROM tries") == 1
    assert one(orders, "SELECT count(*) FROM visits") == 0


def test_write_is_not_repeated(orders, postgresql, fault_proxy):
    """The answer to COMMIT is lost: a write that is not repeatable is not repeated."""
    proxy = fault_proxy(postgresql)
    proxy.cut_answer_to(b"COMMIT")
    with pytest.raises(psycopg.OperationalError):
        call(proxy.url, visit, repeatable=False, pause=0.001)
    assert proxy.was_cut.is_set()
    assert one(orders, "SELECT count(*) FROM visits") == 1


def test_repeatable_write(orders, postgresql, fault_proxy):
    """The answer to COMMIT is lost: a write with a key is repeated, and counts once."""
    proxy = fault_proxy(postgresql)
    proxy.cut_answer_to(b"COMMIT")
    call(proxy.url, order(uuid4()), repeatable=True, pause=0.001)
    assert proxy.was_cut.is_set()
    assert one(orders, "SELECT count(*) FROM orders") == 1


def test_read_is_repeated(orders, postgresql, fault_proxy):
    """A read whose line is lost is read again."""
    proxy = fault_proxy(postgresql)
    proxy.cut_before(b"SELECT 42")

    def read(conn: psycopg.Connection) -> int:
        return one(conn, "SELECT 42")

    assert call(proxy.url, read, repeatable=True, pause=0.001) == 42
    assert proxy.was_cut.is_set()
    assert proxy.connections == 2


def test_killed_session(orders, postgresql):
    """A session that an administrator ends: a read is repeated, a write is not."""

    def die_once(conn: psycopg.Connection) -> None:
        visit(conn)
        if one(conn, "SELECT currval('tries')") == 1:
            conn.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    with pytest.raises(psycopg.OperationalError):
        call(postgresql, die_once, repeatable=False, pause=0.001)
    assert one(orders, "SELECT count(*) FROM visits") == 0
    orders.execute("ALTER SEQUENCE tries RESTART")
    call(postgresql, die_once, repeatable=True, pause=0.001)
    assert one(orders, "SELECT count(*) FROM visits") == 1


@pytest.mark.parametrize("repeatable", [True, False])
def test_connect_again(orders, postgresql, fault_proxy, repeatable):
    """Refused when it connects, it tries again: nothing was done yet."""
    proxy = fault_proxy(postgresql)
    proxy.refuse()

    def accept() -> None:
        wait_for(lambda: proxy.connections)
        proxy.refuse(False)

    helper = threading.Thread(target=accept)
    helper.start()
    call(proxy.url, visit, repeatable=repeatable, pause=1)
    helper.join()
    assert one(orders, "SELECT count(*) FROM visits") == 1


def test_gives_up(orders, postgresql, fault_proxy):
    """After four attempts the driver's own error reaches the caller."""
    proxy = fault_proxy(postgresql)
    proxy.refuse()
    with pytest.raises(psycopg.OperationalError, match="connection"):
        call(proxy.url, visit, repeatable=True, pause=0.001)
    assert proxy.connections == 4


def test_statement_timeout(postgresql):
    """Each attempt has a limit for a statement."""
    work = lambda conn: conn.execute("SHOW statement_timeout").fetchone()  # noqa: E731
    assert call(postgresql, work, repeatable=True) == ("5s",)


# --8<-- [start:wrong]
@retry(stop=stop_after_attempt(5))
def visit_as_often_copied(url):
    with psycopg.connect(url) as conn:
        visit(conn)


# --8<-- [end:wrong]


def test_often_copied_does_it_twice(orders, postgresql, fault_proxy):
    """Often copied: after a lost answer the visit is counted twice."""
    proxy = fault_proxy(postgresql)
    proxy.cut_answer_to(b"COMMIT")
    visit_as_often_copied(proxy.url)
    assert one(orders, "SELECT count(*) FROM visits") == 2


def test_often_copied_retries_a_typo(orders, postgresql):
    """Often copied: a missing table is tried five times, and then hidden in tenacity's
    RetryError."""
    orders.execute("DROP TABLE visits")
    with pytest.raises(RetryError):
        visit_as_often_copied(postgresql)
    assert one(orders, "SELECT last_value FROM tries") == 5
