"""pool_connections: one borrower at a time, and none gets a dead connection."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import ibm_db_dbi
import pytest
import sqlalchemy as sa

from recipes.db2.pool_connections import in_use, make_pool, transaction
from tests.recipes.support.fault_proxy import FaultProxy


def place_of(dsn) -> str:
    return dict(part.split("=", 1) for part in dsn.split(";") if part)["PROGRAMNAME"]


def open_connections(dsn) -> int:
    """How many connections the server has to this place, without this one."""
    query = (
        "SELECT COUNT(*) - 1 FROM TABLE(MON_GET_CONNECTION(NULL, -1))"
        " WHERE APPLICATION_NAME = ?"
    )
    with closing(ibm_db_dbi.connect(dsn, "", "")) as conn:
        cursor = conn.cursor()
        cursor.execute(query, (place_of(dsn),))
        return cursor.fetchone()[0]


def insert_and_fail(pool, statement, error) -> None:
    with transaction(pool) as cursor:
        cursor.execute(statement)
        raise error


# On a server.


@pytest.fixture
def pool(dsn):
    pool = make_pool(dsn, size=2, more=0)
    with transaction(pool) as cursor:
        cursor.execute("CREATE TABLE visit (page INTEGER NOT NULL)")
    yield pool
    pool.dispose()


def pages(pool) -> list[int]:
    with transaction(pool) as cursor:
        cursor.execute("SELECT page FROM visit ORDER BY page")
        return [row[0] for row in cursor.fetchall()]


def test_more_threads_than_connections(pool, dsn):
    """Eight threads share two connections; every insert is committed."""

    def visit(page):
        with transaction(pool) as cursor:
            cursor.execute("INSERT INTO visit VALUES (?)", (page,))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(visit, range(40)))
    assert pages(pool) == list(range(40))
    assert open_connections(dsn) <= 2


def test_error_is_undone(pool):
    """After an error in the block nothing is stored, and the connection is usable."""
    with pytest.raises(ZeroDivisionError):
        insert_and_fail(pool, "INSERT INTO visit VALUES (1)", ZeroDivisionError)
    assert pages(pool) == []
    assert in_use(pool) == (0, 1)


def test_lock_timeout_is_set(pool):
    """Each connection has a limit for the wait for a lock."""
    with transaction(pool) as cursor:
        cursor.execute("VALUES CURRENT LOCK TIMEOUT")
        assert cursor.fetchone()[0] == 10


def test_dead_connection_is_replaced(dsn):
    """The line of an idle connection is cut: the next borrower gets a new one."""
    parts = dict(part.split("=", 1) for part in dsn.split(";") if part)
    with FaultProxy(f"tcp://{parts['HOSTNAME']}:{parts['PORT']}") as proxy:
        pool = make_pool(f"HOSTNAME={proxy.host};PORT={proxy.port};{dsn}", size=1)
        for _ in range(2):
            with transaction(pool) as cursor:
                cursor.execute("VALUES 42")
                assert cursor.fetchone()[0] == 42
            proxy.reset_all()
        assert proxy.connections == 2
        pool.dispose()


# Without one: SQLAlchemy's pool and the dialect, over connections of the test's own.


class Connection:
    """A connection of the driver; what it does at its next ping is told it."""

    dbms_name, dbms_ver = "DB2/LINUXX8664", "12.01.0400"
    description = [("C1", ibm_db_dbi.NUMBER)]
    rowcount = 1

    def __init__(self, number):
        self.number, self.calls, self.fails = number, [], None

    def cursor(self):
        return self

    def execute(self, statement, values=()):
        self.calls.append(statement)
        if self.fails and "SYSDUMMY1" in statement:
            raise self.fails

    def fetchone(self):
        return (1,)

    def get_current_schema(self):
        return "COOK"

    def server_info(self):
        return self.dbms_name, self.dbms_ver

    def get_option(self, key):
        return ibm_db_dbi.SQL_TXN_READ_COMMITTED

    def commit(self):
        self.calls.append("commit")

    def rollback(self):
        self.calls.append("rollback")
        return False  # as the driver says on a dead line, instead of raising

    def close(self):
        pass


@pytest.fixture
def opened(monkeypatch):
    """The connections that pools have opened."""
    found = []

    def connect(dsn, user, password):
        assert dsn.startswith("CONNECTTIMEOUT=5;RECEIVETIMEOUT=60;")
        found.append(Connection(len(found)))
        return found[-1]

    monkeypatch.setattr(ibm_db_dbi, "connect", connect)
    return found


@pytest.mark.parametrize(
    "error",
    [
        ibm_db_dbi.OperationalError("SQL30081N  SQLSTATE=08001 SQLCODE=-30081"),
        ibm_db_dbi.ProgrammingError("SQL1224N  SQLSTATE=55032 SQLCODE=-1224"),
        ibm_db_dbi.OperationalError("SQL30108N  SQLSTATE=08506 SQLCODE=-30108"),
        ibm_db_dbi.OperationalError("SQL0900N  SQLSTATE=08003 SQLCODE=-900"),
        ibm_db_dbi.InternalError("SQL1476N  SQLSTATE=51022 SQLCODE=-1476"),
    ],
)
def test_failed_ping(opened, error):
    """Whatever the error of the ping is, the borrower gets a new connection."""
    pool = make_pool("")
    with transaction(pool) as cursor:
        assert cursor.number == 0
    opened[0].fails = error
    with transaction(pool) as cursor:
        assert cursor.number == 1
    assert in_use(pool) == (0, 1)


def test_error_in_the_work_is_no_failed_ping(opened):
    """An error in the borrower's own statement does not throw the connection away."""
    pool = make_pool("")
    error = ibm_db_dbi.ProgrammingError("SQL0204N")
    with pytest.raises(ibm_db_dbi.ProgrammingError):
        insert_and_fail(pool, "INSERT INTO nothing", error)
    with transaction(pool) as cursor:
        assert cursor.number == 0


def test_error_in_a_statement_of_sqlalchemy(opened):
    """Nor does an error in a statement that SQLAlchemy executes on the same engine."""
    pool = make_pool("")
    with pool.connect() as conn:
        opened[0].fails = ibm_db_dbi.ProgrammingError("SQL0204N")
        with pytest.raises(sa.exc.ProgrammingError) as caught:
            conn.exec_driver_sql("SELECT 2 FROM SYSIBM.SYSDUMMY1")
        opened[0].fails = None
    assert not caught.value.connection_invalidated
    with transaction(pool) as cursor:
        assert cursor.number == 0


def test_commit_and_rollback(opened):
    """A block that ends commits; a block with an error rolls back, and does not
    commit."""
    pool = make_pool("")
    with transaction(pool) as cursor:
        cursor.calls.clear()
        cursor.execute("INSERT")
    assert opened[0].calls == ["INSERT", "commit", "rollback"]
    opened[0].calls.clear()
    with pytest.raises(KeyboardInterrupt):
        insert_and_fail(pool, "INSERT", KeyboardInterrupt)
    ping = "SELECT 1 FROM SYSIBM.SYSDUMMY1"
    assert opened[0].calls == [ping, "INSERT", "rollback"]


def test_limits(opened):
    """No more are lent than allowed: the next borrower waits, then gets an error. What
    was opened in a rush is closed after it."""
    pool = make_pool("", size=1, more=1, wait=0.01)
    with transaction(pool), transaction(pool):
        assert in_use(pool) == (2, 0)
        with pytest.raises(sa.exc.TimeoutError), transaction(pool):
            pass
    assert in_use(pool) == (0, 1)


def test_lock_timeout_once_a_connection(opened):
    """The limit for locks is set when a connection is opened, not on each loan."""
    pool = make_pool("", size=1)
    for _ in range(3):
        with transaction(pool):
            pass
    assert opened[0].calls.count("SET CURRENT LOCK TIMEOUT 10") == 1


def test_driver_says_that_threads_may_not_share():
    """The driver's threadsafety is 0: threads may not even share the module's
    connections."""
    assert ibm_db_dbi.threadsafety == 0


# --8<-- [start:wrong]
def connection_as_copied(dsn):
    return ibm_db_dbi.pconnect(dsn)  # "persistent", so it must be a pool


# --8<-- [end:wrong]


def test_often_copied_shares_a_transaction(pool, dsn):
    """Often copied: two calls in one thread get the same connection. What one of them
    rolls back, the other loses."""
    one, other = connection_as_copied(dsn), connection_as_copied(dsn)
    one.cursor().execute("INSERT INTO visit VALUES (1)")
    other.rollback()
    one.commit()
    assert pages(pool) == []


def test_often_copied_closes_nothing(dsn):
    """Often copied: each thread keeps its connection after close()."""
    meet = threading.Barrier(3)

    def use():
        conn = connection_as_copied(dsn)
        meet.wait(20)
        conn.close()

    threads = [threading.Thread(target=use) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert open_connections(dsn) == 3
