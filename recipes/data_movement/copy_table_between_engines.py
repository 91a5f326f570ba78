# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "pymysql[rsa]>=1.2", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["postgresql", "mysql", "sqlite"]
# ///
"""Copy a table between engines.

This writes rows from anywhere to SQLite, PostgreSQL or MySQL, each once, also after a
crash. What the target refuses goes to a file, with the reason.
"""

import json
import os
import sys
from collections.abc import Iterable
from itertools import islice
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import psycopg
import sqlalchemy as sa
from sqlalchemy import exc

Row = dict[str, Any]
SIZE = 5_000  # rows in a batch, which is a transaction

# --8<-- [start:write]
BEGIN = {
    "sqlite": "BEGIN",  # by itself sqlite3 would begin after the savepoint
    "postgresql": "SET LOCAL TimeZone = 'UTC'",
    "mysql": "SET sql_mode = 'TRADITIONAL', time_zone = '+00:00'",  # or values change
}
BAD = (ValueError, OverflowError, psycopg.DataError, psycopg.IntegrityError)
REFUSED = (exc.DataError, exc.IntegrityError)
BAD_TOO = (1292, 3819, 4025)  # dates and CHECKs: pymysql's OperationalError


def last_key(target: sa.Engine, table: str, key: str) -> int | None:
    """The greatest key that has arrived: go on after it. None before the first."""
    with target.connect() as conn:
        greatest: Any = sa.select(sa.func.max(sa.column(key)))
        found: int | None = conn.scalar(greatest.select_from(sa.table(table)))
    return found


def write_rows(
    target: sa.Engine, table: str, key: str, rows: Iterable[Row], refused: Path
) -> int:
    """Write the rows after last_key(), in order of the key: a whole number.

    Returns how many rows are in the file `refused`, as lines of JSON, those of earlier
    calls included. Raises an error that no row is to blame for: then call it again.
    """
    rows = iter(rows)
    with refused.open("a+b") as file, target.connect() as conn:
        count = forget_after(file, key, last_key(target, table, key))
        while batch := list(islice(rows, SIZE)):
            conn.exec_driver_sql(BEGIN[conn.dialect.name])
            for row, error in insert(conn, table, batch):
                line = {"row": row, "error": str(error)}
                file.write(json.dumps(line, default=bytes.hex).encode() + b"\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())  # before the batch is committed
            conn.commit()
    return count


def forget_after(file: IO[bytes], key: str, last: int | None) -> int:
    """Remove the lines of a batch that was not committed; return how many are left."""
    count = end = 0
    file.seek(0)
    for line in file:
        torn = not line.endswith(b"\n")
        if last is None or torn or json.loads(line)["row"][key] > last:
            break
        count, end = count + 1, end + len(line)
    file.truncate(end)
    return count


def insert(conn: sa.Connection, table: str, rows: list[Row]) -> list[tuple[Row, Any]]:
    """Insert the rows; return those that the target refuses, each with the reason."""
    try:
        with conn.begin_nested():
            send(conn, table, rows)
    except (*BAD, *REFUSED, exc.OperationalError) as error:
        code = getattr(error, "orig", error).args[0]
        if isinstance(error, exc.OperationalError) and code not in BAD_TOO:
            raise
        if len(rows) == 1:
            return [(rows[0], error)]
    else:
        return []
    middle = len(rows) // 2  # halves, until the refused rows are alone
    return insert(conn, table, rows[:middle]) + insert(conn, table, rows[middle:])


def send(conn: sa.Connection, table: str, rows: list[Row]) -> None:
    if any(isinstance(v, float) and not isfinite(v) for r in rows for v in r.values()):
        raise ValueError("NaN or infinite")  # SQLite would make NULL of NaN
    if conn.dialect.name != "postgresql":
        conn.execute(sa.insert(sa.table(table, *map(sa.column, rows[0]))), rows)
        return
    name, *columns = (psycopg.sql.Identifier(n).as_string() for n in (table, *rows[0]))
    cursor: Any = conn.connection.cursor()
    with cursor.copy(f"COPY {name} ({', '.join(columns)}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(tuple(row.values()))


# --8<-- [end:write]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    address = url.replace(":", "+psycopg:", 1)
    target = sa.create_engine(address, connect_args={"connect_timeout": 5})
    with target.begin() as conn:
        conn.exec_driver_sql("CREATE TABLE item (id bigint PRIMARY KEY, name text)")
    rows = ({"id": n, "name": name} for n, name in enumerate(["tea", "\0", "😀"]))
    with TemporaryDirectory() as folder:
        file = Path(folder, "refused.jsonl")
        print("refused:", write_rows(target, "item", "id", rows, file))
        print(json.loads(file.read_text("utf-8"))["error"])
    print("arrived, up to:", last_key(target, "item", "id"))
    target.dispose()


if __name__ == "__main__":
    main()
