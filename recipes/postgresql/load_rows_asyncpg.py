# /// script
# requires-python = ">=3.11"
# dependencies = ["asyncpg>=0.30"]
# ///
"""Load many Python rows into a table with asyncpg.

asyncpg's own COPY is binary and finds the types of the columns by itself. All rows
arrive or none does.
"""

import asyncio
import os
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg


# --8<-- [start:load]
async def load_rows(
    conn: asyncpg.Connection,
    table: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
) -> int:
    """Append the rows to table ("name" or "schema.name"); return how many.

    All or none. Raises OverflowError, TypeError or AttributeError where a value is not
    of its column's type, and asyncpg.PostgresError where the server refuses a row.
    """
    *schema, name = table.split(".")
    status = await conn.copy_records_to_table(
        name,
        schema_name=schema[0] if schema else None,
        columns=columns,
        records=rows,
    )
    return int(status.removeprefix("COPY "))


# --8<-- [end:load]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


async def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    conn = await asyncpg.connect(url, timeout=5, command_timeout=60)
    try:
        await conn.execute(
            "CREATE TABLE reading"
            " (sensor text, taken_at timestamptz, value numeric(8, 2), note text)"
        )
        start = datetime(2026, 1, 1, tzinfo=UTC)
        rows = (
            (f"sensor {n % 3}", start + timedelta(seconds=n), Decimal(n) / 100, None)
            for n in range(10_000)
        )
        columns = ("sensor", "taken_at", "value", "note")
        print(await load_rows(conn, "reading", columns, rows), "rows loaded")
        query = "SELECT sensor, count(*), sum(value) FROM reading GROUP BY 1 ORDER BY 1"
        for row in await conn.fetch(query):
            print("{}: {} readings, sum {}".format(*row))
    finally:
        await conn.close(timeout=5)


if __name__ == "__main__":
    asyncio.run(main())
