# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Copy only what changed since the last run.

A row keeps the number of the transaction that changed it. A run reads from the oldest
one on that was open in the run before. Time stamps miss rows that are committed late.
"""

import os
import sys
from typing import Any

import psycopg

Connection = psycopg.Connection[tuple[Any, ...]]

# --8<-- [start:schema]
SOURCE = """
CREATE TABLE item (
    id      bigint PRIMARY KEY,
    name    text NOT NULL,
    changed xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX ON item (changed);
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.changed := pg_current_xact_id();
        RETURN NEW;
    END
$$;
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON item
    FOR EACH ROW EXECUTE FUNCTION stamp();
"""
TARGET = """
CREATE TABLE item_copy (id bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE watermark (name text PRIMARY KEY, changed xid8 NOT NULL);
INSERT INTO watermark VALUES ('item', '0');
"""
# --8<-- [end:schema]


# --8<-- [start:copy]
def copy_changes(source: Connection, target: Connection) -> int:
    """Copy the rows that changed since the last call; return how many were read.

    Rows and watermark are committed together at the target. A row may be read again,
    which changes nothing. Deleted rows are not seen. Both connections must be idle.
    """
    with (
        target.transaction(),
        source.transaction(),
        source.cursor("changes") as changes,
        target.cursor() as cursor,
    ):
        mark = "SELECT changed FROM watermark WHERE name = 'item' FOR UPDATE"
        ((since,),) = cursor.execute(mark).fetchall()  # another run waits here
        # All below it have ended. Asked before the rows are read, never after.
        oldest = "SELECT pg_snapshot_xmin(pg_current_snapshot())"
        ((until,),) = source.execute(oldest).fetchall()
        changes.execute("SELECT id, name FROM item WHERE changed >= %s", (since,))
        cursor.executemany(
            "INSERT INTO item_copy VALUES (%s, %s)"
            " ON CONFLICT (id) DO UPDATE SET name = excluded.name",
            changes,
        )
        count = cursor.rowcount
        target.execute(
            "UPDATE watermark SET changed = %s WHERE name = 'item'", (until,)
        )
    return count


# --8<-- [end:copy]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with (
        psycopg.connect(url, connect_timeout=5, autocommit=True) as source,
        psycopg.connect(url, connect_timeout=5, autocommit=True) as target,
        psycopg.connect(url, connect_timeout=5) as slow,
    ):
        source.execute(SOURCE)
        target.execute(TARGET)
        slow.execute("INSERT INTO item VALUES (1, 'begun first, committed last')")
        source.execute("INSERT INTO item VALUES (2, 'quick')")
        print("read:", copy_changes(source, target))
        slow.commit()
        copy_changes(source, target)
        for row in target.execute("SELECT id, name FROM item_copy ORDER BY id"):
            print(*row)
        source.execute("UPDATE item SET name = 'new name' WHERE id = 1")
        copy_changes(source, target)
        for row in target.execute("SELECT name FROM item_copy WHERE id = 1"):
            print("changed:", *row)


if __name__ == "__main__":
    main()
