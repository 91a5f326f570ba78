# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Add a constraint to a PostgreSQL table that is in use and holds bad rows.

NOT VALID refuses new bad rows at once and reads none of the old ones. Mend those in
your own time; then VALIDATE proves the rest while others go on writing.
"""

import os
import sys
from collections.abc import Sequence
from typing import LiteralString

import psycopg
from psycopg.sql import SQL, Identifier

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


# --8<-- [start:add]
def add_unproved(
    conn: psycopg.Connection,
    table: str,
    name: str,
    rule: LiteralString,
    patience: str = "2s",
) -> None:
    """Refuse new rows that break the rule: CHECK, FOREIGN KEY or (from 18) NOT NULL.

    Raises LockNotAvailable if the table was busy for that long: call again later. All
    who want the table wait behind us, so a long wait would stop them too.
    """
    add = SQL("ALTER TABLE {} ADD CONSTRAINT {} {} NOT VALID")
    with conn.transaction():
        conn.execute("SELECT set_config('lock_timeout', %s, true)", (patience,))
        conn.execute(add.format(Identifier(table), Identifier(name), SQL(rule)))


def prove(conn: psycopg.Connection, table: str, name: str) -> None:
    """Check the old rows; raises IntegrityError, and changes nothing, if one is bad.

    Not in the transaction of add_unproved(), whose lock would last until it ends.
    """
    validate = SQL("ALTER TABLE {} VALIDATE CONSTRAINT {}")
    conn.execute(validate.format(Identifier(table), Identifier(name)))


def unproved(conn: psycopg.Connection) -> list[tuple[str, str]]:
    """Table and name of each constraint of which old rows may be bad."""
    query = """
        SELECT conrelid::regclass::text, conname FROM pg_constraint
        WHERE NOT convalidated ORDER BY 1, 2
    """
    return conn.execute(query).fetchall()


# --8<-- [end:add]


# --8<-- [start:unique]
def add_unique(
    conn: psycopg.Connection, table: str, name: str, columns: Sequence[str]
) -> None:
    """Refuse duplicates, old and new, while others write. The conn is autocommit.

    Raises UniqueViolation: mend the rows, and call again. After any other error, such
    as a lost line, see whether an invalid index was left, and drop it.
    """
    names = SQL(", ").join(map(Identifier, columns))
    create = SQL("CREATE UNIQUE INDEX CONCURRENTLY {} ON {} ({})")
    try:
        conn.execute(create.format(Identifier(name), Identifier(table), names))
    except psycopg.errors.UniqueViolation:  # the index is there, and refuses rows
        conn.execute(SQL("DROP INDEX CONCURRENTLY {}").format(Identifier(name)))
        raise


# --8<-- [end:unique]


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as conn:
        conn.execute("CREATE TABLE booking (id int, seat text, cents int)")
        conn.execute("INSERT INTO booking VALUES (1, 'A1', -1), (2, 'A2', 5)")
        add_unproved(conn, "booking", "booking_cents", "CHECK (cents >= 0)")
        try:
            conn.execute("INSERT INTO booking VALUES (3, 'A3', -1)")
        except psycopg.errors.CheckViolation as error:
            print("new row: refused by", error.diag.constraint_name)
        print("not proved yet:", unproved(conn))
        try:
            prove(conn, "booking", "booking_cents")
        except psycopg.errors.CheckViolation:
            print("old rows: some are bad")
        mended = conn.execute("UPDATE booking SET cents = 0 WHERE NOT (cents >= 0)")
        print("mended:", mended.rowcount)
        prove(conn, "booking", "booking_cents")
        add_unique(conn, "booking", "booking_seat", ["seat"])
        print("not proved yet:", unproved(conn))


if __name__ == "__main__":
    main()
