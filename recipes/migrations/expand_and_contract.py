# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Rename a column while the application runs.

For a while the old and the new version of a program share the table, each with its own
name for the column. So both columns exist, and a trigger keeps them equal.
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
CREATE FUNCTION customer_mail_is_email() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN  -- in an INSERT old is null
    IF new.email IS DISTINCT FROM old.email THEN new.mail := new.email;
    ELSE new.email := new.mail;
    END IF;
    RETURN new;
END $$;
ALTER TABLE customer ADD COLUMN email text;
CREATE TRIGGER customer_mail_is_email BEFORE INSERT OR UPDATE ON customer
    FOR EACH ROW EXECUTE FUNCTION customer_mail_is_email();
"""
REQUIRE = [  # NOT NULL; nobody waits while the rows are read
    "ALTER TABLE customer ADD CONSTRAINT has_email CHECK (email IS NOT NULL) NOT VALID",
    "ALTER TABLE customer VALIDATE CONSTRAINT has_email",
    "ALTER TABLE customer ALTER email SET NOT NULL",
    "ALTER TABLE customer DROP CONSTRAINT has_email",
]
CONTRACT = """
DROP FUNCTION customer_mail_is_email() CASCADE;  -- and its trigger
ALTER TABLE customer DROP COLUMN mail;
"""
# --8<-- [end:steps]


# --8<-- [start:change]
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


# --8<-- [end:change]


# --8<-- [start:backfill]
BATCH = """
WITH batch AS (
    SELECT id FROM customer WHERE id > %s AND email IS NULL AND mail IS NOT NULL
    ORDER BY id LIMIT %s FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE customer c SET email = mail FROM batch b WHERE c.id = b.id RETURNING c.id"""
FIRST = -(2**63)


def different(conn: psycopg.Connection) -> int:
    """In how many rows the two columns are not equal."""
    count = "SELECT count(*) FROM customer WHERE email IS DISTINCT FROM mail"
    return int(conn.execute(count).fetchall()[0][0])


def backfill(conn: psycopg.Connection, size: int = 1000, limit: float = 3600) -> int:
    """Fill the new column, `size` rows per transaction; return how many there were.

    Comes back for rows that somebody has locked. Raises TimeoutError after `limit`
    seconds; what is filled stays. Can be run again.
    """
    filled, last, end = 0, FIRST, time.monotonic() + limit
    while True:
        with conn.transaction():
            ids = [row[0] for row in conn.execute(BATCH, (last, size))]
        filled, last = filled + len(ids), max(ids, default=FIRST)
        if not ids:
            if not (left := different(conn)):
                return filled
            if time.monotonic() > end:
                raise TimeoutError(f"{left} rows are locked, or differ")
            time.sleep(1)


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
        conn.execute("CREATE TABLE customer (id int PRIMARY KEY, mail text NOT NULL)")
        conn.execute("INSERT INTO customer VALUES (1, 'ann@example.com')")
        change(conn, EXPAND)
        print("filled:", backfill(conn))
        for step in REQUIRE:
            change(conn, step)
        conn.execute("INSERT INTO customer (id, mail) VALUES (2, 'old@example.com')")
        conn.execute("INSERT INTO customer (id, email) VALUES (3, 'new@example.com')")
        print("different:", different(conn))
        contract(conn)
        print(*conn.execute("SELECT id, email FROM customer ORDER BY id"), sep="\n")


if __name__ == "__main__":
    main()
