# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "sqlalchemy>=2.1"]
# ///
"""Load many Python rows into a table inside a SQLAlchemy transaction.

SQLAlchemy has no COPY. The psycopg connection below it has: what it loads commits or
rolls back with everything else that the transaction does.
"""

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql


# --8<-- [start:load]
def load_rows(
    conn: sa.Connection,
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
) -> int:
    """Append the rows to table ("name" or "schema.name"); return how many.

    Part of the transaction of conn: all or none. Raises psycopg.Error where the
    server refuses a row, InvalidRequestError where no transaction has begun.
    """
    if not conn.in_transaction():
        raise sa.exc.InvalidRequestError("begin first, or nobody commits")
    raw = conn.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    copy_in = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(*table.split(".")),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
    )
    with raw.transaction(), raw.cursor() as cur:
        with cur.copy(copy_in) as copy:
            for row in rows:
                copy.write_row(row)
        return cur.rowcount


# --8<-- [end:load]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    address = sa.make_url(url).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(address, connect_args={"connect_timeout": 5})
    with engine.begin() as conn:
        conn.execute(
            sa.text(
                "CREATE TABLE reading"
                " (sensor text, taken_at timestamptz, value numeric(8, 2), note text)"
            )
        )
        start = datetime(2026, 1, 1, tzinfo=UTC)
        rows = (
            (f"sensor {n % 3}", start + timedelta(seconds=n), Decimal(n) / 100, None)
            for n in range(10_000)
        )
        columns = ("sensor", "taken_at", "value", "note")
        print(load_rows(conn, "reading", columns, rows), "rows loaded")
        query = "SELECT sensor, count(*), sum(value) FROM reading GROUP BY 1 ORDER BY 1"
        for row in conn.execute(sa.text(query)):
            print("{}: {} readings, sum {}".format(*row))
    engine.dispose()


if __name__ == "__main__":
    main()
