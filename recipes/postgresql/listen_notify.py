# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2.4"]
# ///
"""Hear of new rows at once, and lose none.

NOTIFY wakes the listener; the table says what is new. A notification that nobody heard
is made good by reading the table, at the start and after every lost connection.
"""

import logging
import os
import sys
import time
from collections.abc import Generator

import psycopg

# --8<-- [start:schema]
SCHEMA = """
CREATE TABLE event (
    id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    body text NOT NULL
);
CREATE FUNCTION notify_event() RETURNS trigger LANGUAGE plpgsql
    AS $$ BEGIN PERFORM pg_notify('event', ''); RETURN NULL; END $$;
CREATE TRIGGER notify_event AFTER INSERT ON event
    FOR EACH STATEMENT EXECUTE FUNCTION notify_event();
"""
# --8<-- [end:schema]

log = logging.getLogger(__name__)


# --8<-- [start:listen]
def new_events(conn: psycopg.Connection) -> Generator[str, None, None]:
    """Yield the events in the table; each is deleted when you ask for the next one."""
    for event, body in conn.execute(
        "SELECT id, body FROM event ORDER BY id"
    ).fetchall():
        yield body
        conn.execute("DELETE FROM event WHERE id = %s", (event,))


def listen(
    url: str, *, poll: float = 60, pause: float = 1
) -> Generator[str, None, None]:
    """Yield the body of each event, now and for ever. For one listener.

    At least once: if this process or its connection dies before you ask for the next
    event, you get the same one again. Looks into the table every `poll` seconds even
    if all is quiet. A lost connection is logged, and made again every `pause` seconds.
    Raises OperationalError if the first connection cannot be made.
    """
    connected = False
    while True:
        try:
            # Autocommit: LISTEN begins with the end of its transaction.
            with psycopg.connect(url, autocommit=True, connect_timeout=5) as conn:
                connected = True
                conn.execute("LISTEN event")  # before the first look into the table
                while True:
                    yield from new_events(conn)
                    for _ in conn.notifies(timeout=poll, stop_after=1):
                        pass
        except psycopg.OperationalError as error:
            if not connected:
                raise
            log.warning("lost the connection, trying again: %s", error)
            time.sleep(pause)


# --8<-- [end:listen]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    logging.basicConfig(level=logging.ERROR)
    with psycopg.connect(url, connect_timeout=5, autocommit=True) as conn:
        conn.execute(SCHEMA)
        add = "INSERT INTO event (body) VALUES (%s)"
        conn.execute(add, ("before anybody listens",))
        events = listen(url, pause=0.1)
        print("got:", next(events))
        conn.execute(add, ("while listening",))
        print("got:", next(events))
        conn.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        conn.execute(add, ("while the connection was lost",))
        print("got:", next(events), "(once more: it was not finished)")
        print("got:", next(events))
        events.close()


if __name__ == "__main__":
    main()
