# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Split a column in two while the application runs.

The old version of a program writes one column, the new one writes two. A trigger makes
each from the other, in such a way that the text stays the same to the letter.
"""

import os
import sys
import time
from typing import LiteralString

import psycopg
from psycopg.errors import LockNotAvailable
from psycopg.pq import TransactionStatus

# --8<-- [start:steps]
EXPAND = """
CREATE FUNCTION customer_split_name() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN  -- in an INSERT old is null
    IF (new.given, new.family) IS DISTINCT FROM (old.given, old.family) THEN
        new.name := new.given || coalesce(' ' || new.family, '');
    ELSIF new.name IS DISTINCT FROM old.name OR new.given IS NULL THEN
        new.given := split_part(new.name, ' ', 1);
        new.family := substring(new.name FROM ' (.*)');  -- no space: null
    END IF;
    RETURN new;
END $$;
ALTER TABLE customer ADD COLUMN given text, ADD COLUMN family text;
CREATE TRIGGER customer_split_name BEFORE INSERT OR UPDATE ON customer
    FOR EACH ROW EXECUTE FUNCTION customer_split_name();
"""
BATCH = """
WITH batch AS (
    SELECT id FROM customer WHERE id > %s AND given IS NULL AND name IS NOT NULL
    ORDER BY id LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
)  -- the trigger splits
UPDATE customer c SET name = name FROM batch b WHERE c.id = b.id RETURNING c.id"""
REQUIRE = [
    "ALTER TABLE customer ADD CONSTRAINT has_given CHECK (given IS NOT NULL) NOT VALID",
    "ALTER TABLE customer VALIDATE CONSTRAINT has_given",
    "ALTER TABLE customer ALTER given SET NOT NULL",
    "ALTER TABLE customer DROP CONSTRAINT has_given",
]
DIFFERENT = """
SELECT count(*) FROM customer
WHERE name IS DISTINCT FROM given || coalesce(' ' || family, '')"""
CONTRACT = """
DROP FUNCTION customer_split_name() CASCADE;  -- and its trigger
ALTER TABLE customer DROP COLUMN name;
"""
# --8<-- [end:steps]


def change(
    conn: psycopg.Connection, ddl: LiteralString, tries: int = 100, pause: float = 5
) -> int:
    """Run DDL in a transaction of its own; return at which try. Waits 0.1 s for a lock,
    lets everybody pass, and tries again after `pause` seconds. Raises LockNotAvailable
    after the last try, and then has changed nothing.
    """
    if conn.info.transaction_status != TransactionStatus.IDLE:
        raise ValueError("in a transaction already: it would keep the locks")
    for attempt in range(1, tries + 1):
        try:
            with conn.transaction():
                conn.execute("SET LOCAL lock_timeout = '100ms';" + ddl)
            break
        except LockNotAvailable:
            if attempt == tries:
                raise
            time.sleep(pause)
    return attempt


# --8<-- [start:backfill]
def backfill(conn: psycopg.Connection, size: int = 1000, limit: float = 3600) -> int:
    """Split the old rows, `size` per transaction; return how many there were. Comes
    back for locked ones. Raises TimeoutError after `limit` seconds; can be run again.
    """
    filled, first, end = 0, -(2**63), time.monotonic() + limit
    last = first
    while True:
        with conn.transaction():
            ids = [row[0] for row in conn.execute(BATCH, (last, size))]
        filled, last = filled + len(ids), max(ids, default=first)
        if not ids:
            if not (left := different(conn)):
                return filled
            if time.monotonic() > end:
                raise TimeoutError(f"{left} rows are locked, or differ")
            time.sleep(1)


def different(conn: psycopg.Connection) -> int:
    """In how many rows the old column is not made of the new ones."""
    return int(conn.execute(DIFFERENT).fetchall()[0][0])


def contract(conn: psycopg.Connection) -> int:
    """Drop the old column; return at which try. ValueError: a row differs."""
    if count := different(conn):
        raise ValueError(f"{count} rows differ: nothing is dropped")
    return change(conn, CONTRACT)


# --8<-- [end:backfill]


NO_SERVER = """Set POSTGRESQL_URL, for example \
postgresql://cook:cook@127.0.0.1:15432/cookbook \
after `docker compose up -d --wait postgresql`"""


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with psycopg.connect(url, connect_timeout=5, autocommit=True) as conn:
        conn.execute("CREATE TABLE customer (id int PRIMARY KEY, name text NOT NULL)")
        conn.execute("INSERT INTO customer VALUES (1, 'Ann of Cleves')")
        change(conn, EXPAND)
        print("split:", backfill(conn))
        for step in REQUIRE:
            change(conn, step)
        conn.execute("INSERT INTO customer (id, name) VALUES (2, 'Björk')")
        new = "INSERT INTO customer (id, given, family) VALUES (3, 'Mary Ann', 'Lee')"
        conn.execute(new)
        print(*conn.execute("SELECT name FROM customer WHERE id = 3").fetchall()[0])
        contract(conn)
        print(*conn.execute("SELECT * FROM customer ORDER BY id"), sep="\n")


if __name__ == "__main__":
    main()
