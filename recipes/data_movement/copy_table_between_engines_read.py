# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "psycopg[binary]>=3.2", "pymysql[rsa]>=1.2", "rich>=14", "sqlalchemy>=2.1"
# ]
#
# [tool.cookbook]
# needs = ["postgresql", "mysql", "sqlite"]
# ///
"""Read a table so that another engine can take it.

Rows of SQLite, PostgreSQL or MySQL come in order of the key, in constant memory, and in
values that mean the same in all of them. A checksum says whether two tables are equal.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Context, Decimal
from hashlib import blake2b
from typing import Any

import sqlalchemy as sa
from rich.console import Console
from rich.progress import track

Row = dict[str, Any]
SIZE = 5_000  # rows in a batch

# --8<-- [start:read]
SESSION = {
    "postgresql": "SET LOCAL DateStyle = 'ISO, YMD'",
    "mysql": "SET time_zone = '+00:00'",
}
AS_TEXT = (sa.Numeric, sa.Date, sa.DateTime, sa.Time, sa.JSON, sa.Uuid)


def read_rows(source: sa.Engine, name: str, after: int | None = None) -> Iterator[Row]:
    """Give the rows whose key, a whole number, comes after that, in its order.

    Holds one batch, and no connection while the caller works on it.
    """
    table = sa.Table(name, sa.MetaData(), autoload_with=source)
    (key,) = table.primary_key
    query = sa.select(*map(portable, table.c)).order_by(key).limit(SIZE)
    while True:
        with source.connect() as conn:
            if sql := SESSION.get(conn.dialect.name):
                conn.exec_driver_sql(sql)
            batch = query if after is None else query.where(key > after)
            rows = conn.execute(batch).all()
        if not rows:
            return
        yield from (row._asdict() for row in rows)
        after = rows[-1]._mapping[key.name]


def portable(column: sa.Column[Any]) -> sa.ColumnElement[Any]:
    """As text, which loses no digit, where each driver has a type of its own."""
    if isinstance(column.type, sa.Float):  # pymysql: else a rounded Decimal
        return sa.type_coerce(column, sa.Double()).label(column.name)
    if not isinstance(column.type, AS_TEXT):
        return column
    zoned = getattr(column.type, "timezone", False)
    value: Any = sa.func.timezone("UTC", column) if zoned else column
    return sa.cast(value, sa.Text).label(column.name)


# --8<-- [end:read]


# --8<-- [start:checksum]
def checksum(
    rows: Iterable[Row], forms: Mapping[str, Callable[[Any], Any]]
) -> tuple[int, str]:
    """How many rows, and a sum of their hashes, which do not depend on the order.

    `forms` make equal what engines write differently: a function for a column.
    """
    count = total = 0
    for row in rows:
        for name, form in forms.items():
            row[name] = None if row[name] is None else form(row[name])
        text = repr(sorted(row.items()))
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        total += int.from_bytes(digest)
        count += 1
    return count, f"{total % 2**64:016x}"


def decimal(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def moment(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def document(text: str) -> str:
    def number(value: Decimal) -> str:
        return f"number {value.normalize(Context(prec=999))}"

    parsed = json.loads(text, parse_int=Decimal, parse_float=Decimal)
    return json.dumps(parsed, sort_keys=True, default=number)


# --8<-- [end:checksum]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    address = url.replace(":", "+psycopg:", 1)
    engines = {
        "timestamptz": sa.create_engine(address, connect_args={"connect_timeout": 5}),
        "text": sa.create_engine("sqlite://"),  # in memory
    }
    sums = set()
    for kind, engine in engines.items():
        with engine.begin() as conn:
            table = f"item (id bigint PRIMARY KEY, at {kind})"
            conn.exec_driver_sql(f"CREATE TABLE {table}")
            values = "(1, '1969-07-20 20:17:40.500000+00:00'), (2, NULL)"
            conn.exec_driver_sql(f"INSERT INTO item VALUES {values}")
        rows = track(read_rows(engine, "item"), total=2, console=Console(stderr=True))
        print(*next(read_rows(engine, "item")).values())
        sums.add(checksum(rows, {"at": moment}))
        engine.dispose()
    print("equal:", len(sums) == 1)


if __name__ == "__main__":
    main()
