"""merge_upsert: new and known rows, and two sessions with one new key."""

import time
from concurrent.futures import ThreadPoolExecutor

import oracledb
import pytest

from recipes.oracle.merge_upsert import MERGE, SCHEMA, deliver


@pytest.fixture
def shop(conn):
    """A connection to a schema with ten cups."""
    with conn.cursor() as cursor:
        cursor.execute(SCHEMA)
        cursor.execute("INSERT INTO stock VALUES ('cup', 10)")
    conn.commit()
    return conn


@pytest.fixture
def other(oracle, shop):
    """A second connection to that schema."""
    with oracledb.connect(oracle, tcp_connect_timeout=5) as other:
        other.call_timeout = 30_000
        yield other


def stock(conn) -> dict[str, int]:
    with conn.cursor() as cursor:
        cursor.execute("SELECT item, held FROM stock")
        return dict(cursor.fetchall())


def wait_until_blocked(conn, waiting) -> None:
    """Return when the session of `waiting` waits for another one."""
    query = "SELECT blocking_session FROM v$session WHERE sid = :sid"
    sid, deadline = waiting.session_id, time.monotonic() + 10
    with conn.cursor() as cursor:
        while True:
            cursor.execute(query, sid=sid)
            if cursor.fetchone()[0] is not None:
                return
            assert time.monotonic() < deadline, "it never waited"


def test_new_and_known(shop):
    """A known item gets more, a new one is made; both are counted."""
    assert deliver(shop, [("cup", 5), ("pot", 1)]) == 2
    assert stock(shop) == {"cup": 15, "pot": 1}


def test_item_twice(shop):
    """An item that comes twice in one delivery counts twice, also when it is new."""
    assert deliver(shop, [("jug", 1), ("cup", 1), ("jug", 2)]) == 3
    assert stock(shop) == {"cup": 11, "jug": 3}


def test_nothing(shop):
    """A delivery of nothing changes nothing."""
    assert deliver(shop, []) == 0


def test_all_or_none(shop):
    """A bad row: the error reaches the caller, and the rows before it are undone; what
    the caller did before stays."""
    with shop.cursor() as cursor:
        cursor.execute("INSERT INTO stock VALUES ('mine', 1)")
    with pytest.raises(oracledb.DatabaseError):
        deliver(shop, [("cup", 5), ("x" * 51, 1)])
    assert stock(shop) == {"cup": 10, "mine": 1}


def test_nothing_is_committed(shop, other):
    """Another connection sees the delivery after the commit, and not before."""
    deliver(shop, [("pot", 1)])
    assert stock(other) == {"cup": 10}
    shop.commit()
    assert stock(other) == {"cup": 10, "pot": 1}


def test_one_new_key_in_two_sessions(shop, other):
    """Two sessions deliver the same new item at once: one waits for the other, and both
    deliveries count."""
    deliver(shop, [("jug", 1)])
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(deliver, other, [("jug", 2)])
        wait_until_blocked(shop, other)
        shop.commit()
        assert waiting.result(timeout=20) == 1
    other.commit()
    assert stock(shop) == {"cup": 10, "jug": 3}


def test_lost_connection(shop, oracle, through):
    """The line breaks: DPY-4011, not the error of a rollback that could not be."""
    proxy, dsn = through(oracle)
    with oracledb.connect(dsn) as conn:
        proxy.reset_all()
        with pytest.raises(oracledb.DatabaseError, match="DPY-4011"):
            deliver(conn, [("cup", 1)])


def test_no_attempt_is_an_error(shop):
    """No attempts is an error, not a silent nothing."""
    with pytest.raises(ValueError, match="attempts"):
        deliver(shop, [("cup", 1)], attempts=0)


# --8<-- [start:wrong]
def deliver_as_copied(conn, item, pieces):
    with conn.cursor() as cursor:
        cursor.execute("SELECT held FROM stock WHERE item = :1", [item])
        row = cursor.fetchone()
        if row is None:
            cursor.execute("INSERT INTO stock VALUES (:1, :2)", [item, pieces])
        else:
            held = row[0] + pieces
            cursor.execute("UPDATE stock SET held = :1 WHERE item = :2", [held, item])
    conn.commit()


# --8<-- [end:wrong]


class Meddling(oracledb.Connection):
    """A connection in whose cursor another session delivers after the SELECT."""

    meddle = None

    def cursor(self, *args, **kwargs):
        connection = self

        class MeddledCursor(oracledb.Cursor):
            def fetchone(self):
                row = super().fetchone()
                connection.meddle()
                return row

        return MeddledCursor(self)


def test_often_copied_loses_a_delivery(shop, other, oracle):
    """Often copied: between SELECT and UPDATE another session delivers 100 cups. They
    are gone."""
    with oracledb.connect(oracle, conn_class=Meddling) as conn:
        conn.meddle = lambda: deliver_and_commit(other, "cup", 100)
        deliver_as_copied(conn, "cup", 5)
    assert stock(shop) == {"cup": 15}


def test_often_copied_collides(shop, other, oracle):
    """Often copied: two sessions with the same new item, and the second gets
    ORA-00001."""
    with oracledb.connect(oracle, conn_class=Meddling) as conn:
        conn.meddle = lambda: deliver_and_commit(other, "jug", 1)
        with pytest.raises(oracledb.IntegrityError):
            deliver_as_copied(conn, "jug", 2)


def deliver_and_commit(conn, item: str, pieces: int) -> None:
    deliver(conn, [(item, pieces)])
    conn.commit()


def test_often_copied_merge_alone(shop, other):
    """Often copied, MERGE without a second attempt: two sessions with the same new
    item, and the one that waited gets ORA-00001."""
    deliver(shop, [("jug", 1)])
    with ThreadPoolExecutor() as threads, other.cursor() as cursor:
        waiting = threads.submit(cursor.execute, MERGE, item="jug", pieces=2)
        wait_until_blocked(shop, other)
        shop.commit()
        assert waiting.exception(timeout=20).args[0].code == 1
