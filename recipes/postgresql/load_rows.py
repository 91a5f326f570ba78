# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
# ///
"""Load many Python rows into a table, fast.

COPY takes any iterable, one row at a time, so memory stays flat. All rows arrive or
none does. Use it from a few hundred rows on.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql


# --8<-- [start:load]
def load_rows(
    conn: psycopg.Connection,
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
) -> int:
    """Append the rows to table ("name" or "schema.name"); return how many.

    All or none. Raises psycopg.Error where the server refuses a row.
    """
    copy_in = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(*table.split(".")),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
    )
    with conn.transaction(), conn.cursor() as cur:
        with cur.copy(copy_in) as copy:
            for row in rows:
                copy.write_row(row)
        return cur.rowcount


# --8<-- [end:load]

# --8<-- [start:binary]
# Types of which psycopg checks the values. In others a wrong one may turn to nonsense.
CHECKED = {"bytea", "date", "float8", "int8", "json", "jsonb", "numeric", "text"}
CHECKED |= {"timestamp", "timestamptz", "uuid", "varchar"}


def load_rows_binary(
    conn: psycopg.Connection,
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
) -> int:
    """Like load_rows, for columns of the CHECKED types; nothing is converted.

    Raises TypeError or OverflowError where a value is not of its column's type, and
    ValueError where a column's type is not CHECKED.
    """
    target = sql.Identifier(*table.split("."))
    names = sql.SQL(", ").join(map(sql.Identifier, columns))
    with conn.transaction(), conn.cursor() as cur:
        # An empty answer tells the types, which the server will not check.
        cur.execute(sql.SQL("SELECT {} FROM {} LIMIT 0").format(names, target))
        columns_of = cur.description or ()
        types = [column.type_display.partition("(")[0] for column in columns_of]
        if unchecked := set(types) - CHECKED:
            raise ValueError(f"use load_rows for {', '.join(sorted(unchecked))}")
        copy_in = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)")
        with cur.copy(copy_in.format(target, names)) as copy:
            copy.set_types(types)
            for row in rows:
                copy.write_row(row)
        return cur.rowcount


# --8<-- [end:binary]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with psycopg.connect(url, connect_timeout=5) as conn:
        conn.execute(
            "CREATE TABLE reading"
            " (sensor text, taken_at timestamptz, value numeric(8, 2), note text)"
        )
        start = datetime(2026, 1, 1, tzinfo=UTC)
        rows = (
            (f"sensor {n % 3}", start + timedelta(seconds=n), Decimal(n) / 100, None)
            for n in range(10_000)
        )
        columns = ("sensor", "taken_at", "value", "note")
        print(load_rows(conn, "reading", columns, rows), "rows loaded")
        last = ("sensor 0", start + timedelta(days=1), Decimal("0.33"), "binary")
        print(load_rows_binary(conn, "reading", columns, [last]), "row loaded")
        query = "SELECT sensor, count(*), sum(value) FROM reading GROUP BY 1 ORDER BY 1"
        for row in conn.execute(query):
            print("{}: {} readings, sum {}".format(*row))


if __name__ == "__main__":
    main()
