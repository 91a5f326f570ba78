import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from psycopg import errors

from recipes.postgresql.listen_notify import SCHEMA, listen

ADD = "INSERT INTO event (body) VALUES (%s)"


@pytest.fixture
def conn(postgresql):
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute(SCHEMA)
        yield conn


@pytest.fixture
def proxy(postgresql, fault_proxy):
    return fault_proxy(postgresql)


@pytest.fixture
def events(conn, proxy):
    """A listener behind the proxy that would look for itself only after 20 s."""
    events = listen(proxy.url, poll=20, pause=0.01)
    yield events
    events.close()


@pytest.fixture
def pool():
    with ThreadPoolExecutor() as pool:
        yield pool


def wait_until_listening(conn, since=None):
    """Return when another connection waits after `LISTEN`, or after its last look."""
    idle = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        " AND pid <> pg_backend_pid() AND state = 'idle' AND pid IS DISTINCT FROM %s"
        " AND (query LIKE 'LISTEN%%' OR query LIKE 'SELECT id%%')"
    )
    while not (row := conn.execute(idle, (since,)).fetchone()):
        time.sleep(0.005)
    return row[0]


def test_waiting_listener_is_woken(conn, events, pool):
    """An event wakes a listener that waits."""
    first = pool.submit(next, events)
    wait_until_listening(conn)
    conn.execute(ADD, ("a",))
    assert first.result(timeout=5) == "a"


def test_earlier_events_are_read(conn, events):
    """Events from before the start are read first, in their order."""
    for body in ("a", "b"):
        conn.execute(ADD, (body,))
    assert [next(events), next(events)] == ["a", "b"]


def test_event_while_busy_is_not_missed(conn, events, pool):
    """An event that comes while the listener is busy is read right afterwards."""
    conn.execute(ADD, ("a",))
    assert next(events) == "a"
    conn.execute(ADD, ("b",))
    assert pool.submit(next, events).result(timeout=5) == "b"


@pytest.mark.parametrize("moment", ["LISTEN", "SELECT", "wait"])
def test_event_at_a_bad_moment_is_not_missed(conn, postgresql, pool, moment):
    """An event just before LISTEN, before the look into the table, before the wait: it
    is read at once."""

    class Late(psycopg.Connection):
        def execute(self, query, *args, **kwargs):
            if query.startswith(moment):
                conn.execute(ADD, ("late",))
            return super().execute(query, *args, **kwargs)

        def notifies(self, **kwargs):
            if moment == "wait":
                conn.execute(ADD, ("late",))
                self.execute("")  # its answer brings the notification along
            return super().notifies(**kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg, "connect", Late.connect)
        events = listen(postgresql, poll=20)
        assert pool.submit(next, events).result(timeout=5) == "late"
        events.close()


def test_events_while_away_are_read(conn, proxy, events, caplog, pool):
    """The line is cut and the server away: what happens meanwhile is read later."""
    first = pool.submit(next, events)
    wait_until_listening(conn)
    before = proxy.connections
    proxy.refuse()
    proxy.reset_all()
    conn.execute(ADD, ("while away",))
    while proxy.connections < before + 2:
        time.sleep(0.005)
    assert not first.done()
    proxy.refuse(False)
    assert first.result(timeout=5) == "while away"
    assert "lost the connection" in caplog.text


def test_ended_session_is_made_again(conn, events, pool):
    """The server ends the session: the listener comes back and hears the next event."""
    first = pool.submit(next, events)
    pid = wait_until_listening(conn)
    conn.execute("SELECT pg_terminate_backend(%s)", (pid,))
    wait_until_listening(conn, since=pid)
    conn.execute(ADD, ("a",))
    assert first.result(timeout=5) == "a"


def test_unfinished_event_comes_again(conn, proxy, events):
    """The connection is lost before the event is finished: it comes again."""
    for body in ("a", "b"):
        conn.execute(ADD, (body,))
    assert next(events) == "a"
    proxy.reset_all()
    assert [next(events), next(events)] == ["a", "b"]


def test_finished_events_are_gone(conn, events):
    """An event is deleted when the next one is asked for, and not before."""
    for body in ("a", "b"):
        conn.execute(ADD, (body,))
    for left in (["a", "b"], ["b"]):
        next(events)
        rows = conn.execute("SELECT body FROM event ORDER BY id").fetchall()
        assert [body for (body,) in rows] == left


def test_late_commit_is_not_missed(conn, postgresql, events):
    """An event with a lower number that is committed later is read, not skipped."""
    with psycopg.connect(postgresql) as slow:
        slow.execute(ADD, ("first, commits last",))
        conn.execute(ADD, ("second",))
        assert next(events) == "second"
    assert next(events) == "first, commits last"


def test_rolled_back_event_is_not_heard(conn, events):
    """What is rolled back is not heard."""
    with conn.transaction(force_rollback=True):
        conn.execute(ADD, ("never",))
    conn.execute(ADD, ("a",))
    assert next(events) == "a"


def test_large_event(conn, events):
    """An event may be larger than the 8,000 bytes of a notification."""
    conn.execute(ADD, ("x" * 100_000,))
    assert len(next(events)) == 100_000


def test_poll_finds_what_was_not_announced(conn, postgresql, pool):
    """Every `poll` seconds the table is read, even if nothing was announced."""
    conn.execute("DROP TRIGGER notify_event ON event")
    events = listen(postgresql, poll=0.05)
    first = pool.submit(next, events)
    wait_until_listening(conn)
    conn.execute(ADD, ("silent",))
    assert first.result(timeout=5) == "silent"
    events.close()


def test_wrong_address_is_an_error(proxy):
    """A first connection that cannot be made is an error, not an endless loop."""
    proxy.refuse()
    with pytest.raises(psycopg.OperationalError):
        next(listen(proxy.url))


# --8<-- [start:wrong]
def listen_as_often_copied(url):
    while True:
        try:
            with psycopg.connect(url, autocommit=True) as conn:
                conn.execute("LISTEN news")
                for notification in conn.notifies():
                    yield notification.payload
        except psycopg.OperationalError:
            time.sleep(0.01)


# --8<-- [end:wrong]


def test_often_copied_loses_what_it_did_not_hear(conn, proxy, pool):
    """Often copied: what was sent while the connection was lost is lost."""
    news = listen_as_often_copied(proxy.url)
    first = pool.submit(next, news)
    pid = wait_until_listening(conn)
    proxy.refuse()
    proxy.reset_all()
    conn.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    conn.execute("NOTIFY news, 'lost'")
    proxy.refuse(False)
    wait_until_listening(conn, since=pid)
    conn.execute("NOTIFY news, 'heard'")
    assert first.result(timeout=5) == "heard"
    news.close()


def test_often_copied_cannot_send_much(conn):
    """Often copied: a payload of 8,000 bytes or more is refused."""
    with pytest.raises(errors.InvalidParameterValue, match="payload string too long"):
        conn.execute("SELECT pg_notify('news', %s)", ("x" * 8_000,))


def test_often_copied_needs_autocommit(conn, postgresql):
    """Often copied: without autocommit LISTEN waits for a commit, and hears nothing."""
    with psycopg.connect(postgresql) as deaf:
        deaf.execute("LISTEN news")
        conn.execute("NOTIFY news, 'lost'")
        assert list(deaf.notifies(timeout=0.1)) == []
        deaf.commit()
        conn.execute("NOTIFY news, 'heard'")
        assert [n.payload for n in deaf.notifies(timeout=5, stop_after=1)] == ["heard"]
