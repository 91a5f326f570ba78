"""A table of every common type, and how to make it on each engine."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from recipes.data_movement.copy_table_between_engines_read import (
    decimal,
    document,
    moment,
)

DRIVERS = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}
TYPES = {
    "id": ("INTEGER PRIMARY KEY", "bigint PRIMARY KEY", "BIGINT PRIMARY KEY"),
    "small": ("INTEGER", "integer", "INT"),
    "flag": ("INTEGER", "boolean", "BOOLEAN"),
    "ratio": ("REAL", "double precision", "DOUBLE"),
    "amount": ("TEXT", "numeric(38, 9)", "DECIMAL(38, 9)"),
    "at": ("TEXT", "timestamptz", "DATETIME(6)"),
    "day": ("TEXT", "date", "DATE"),
    "note": ("TEXT", "text", "LONGTEXT COLLATE utf8mb4_bin"),
    "body": ("TEXT", "jsonb", "JSON"),
    "raw": ("BLOB", "bytea", "LONGBLOB"),
}
FORMS: dict[str, Callable[[Any], Any]] = {
    "flag": bool,
    "amount": decimal,
    "at": moment,
    "body": document,
}
NAMES = ("sqlite", "postgresql", "mysql")
PLANES = "".join(
    chr(plane * 0x10000 + offset)
    for plane in range(17)
    for offset in (0x20, 0x1234, 0xFFFD)
)
ROWS: list[tuple[Any, ...]] = [
    (
        -(2**63),
        -(2**31),
        False,
        -1.7976931348623157e308,
        "-99999999999999999999999999999.999999999",
        "0001-01-01 00:00:00",
        "0001-01-01",
        "",
        "{}",
        b"",
    ),
    (
        -1,
        -1,
        True,
        5e-324,
        "0.000000001",
        "1969-12-31 23:59:59.999999",
        "1899-12-31",
        "tab\t line\n\r back\\slash \\N 'quote' \"quote\" % %s ? :x \x1a",
        '{"a": [1, null, "é😀"]}',
        bytes(range(256)),
    ),
    (
        0,
        0,
        False,
        0.1,
        "0",
        "1970-01-01 00:00:00",
        "1970-01-01",
        PLANES,
        '"only text"',
        b"\x00",
    ),
    (1, None, None, None, None, None, None, None, None, None),
    (
        2,
        1,
        True,
        1 / 3,
        "12345678901234567890.10",
        "2026-03-29 00:59:59.5",
        "2024-02-29",
        "a\u0301 and \u00e1 and A",
        '{"n": 12345678901234567.25, "m": 1.50}',
        b"\\x00",
    ),
    (
        2**63 - 1,
        2**31 - 1,
        True,
        1.7976931348623157e308,
        "99999999999999999999999999999.999999999",
        "9999-12-31 23:59:59.999999",
        "9999-12-31",
        "x" * 70_000,
        '[true, {"b": 1, "a": 2}]',
        b"\xff" * 70_000,
    ),
]


def many(count: int) -> Iterator[tuple[Any, ...]]:
    """So many rows: those above, then some that are made of a number, with a NULL."""
    yield from ROWS
    for n in range(3, count - len(ROWS) + 3):
        row = [
            n,
            (-1) ** n * n,
            n % 2 == 0,
            n / 7,
            f"{(-1) ** n * n}.{n:09}",
            str(datetime(1960, 1, 1) + n * timedelta(hours=1, microseconds=1)),
            str(date(1899, 12, 31) + timedelta(n % 99_999)),
            f"{PLANES[n % len(PLANES)]} row {n}",
            json.dumps({"n": n, "text": PLANES[n % len(PLANES)], "none": None}),
            n.to_bytes(8),
        ]
        if column := n % len(row):
            row[column] = None
        yield tuple(row)


def engine_for(address: str) -> sa.Engine:
    """A path is SQLite's."""
    name = address.partition(":")[0]
    if name in DRIVERS:
        return sa.create_engine(
            sa.make_url(str(address)).set(drivername=DRIVERS[name]),
            poolclass=sa.NullPool,
        )
    return sa.create_engine(f"sqlite:///{address}", poolclass=sa.NullPool)


def create(
    engine: sa.Engine,
    table: str = "thing",
    columns: Sequence[str] = tuple(TYPES),
) -> None:
    index = NAMES.index(engine.dialect.name)
    quote = engine.dialect.identifier_preparer.quote
    parts = ", ".join(f"{quote(name)} {TYPES[name][index]}" for name in columns)
    with engine.begin() as conn:
        conn.exec_driver_sql(f"CREATE TABLE {quote(table)} ({parts})")


def fill(
    engine: sa.Engine,
    rows: Iterable[Sequence[Any]],
    table: str = "thing",
    columns: Sequence[str] = tuple(TYPES),
) -> None:
    """Through the plain driver, so that nothing of the recipes makes the source."""
    quote = engine.dialect.identifier_preparer.quote
    mark = "?" if engine.dialect.name == "sqlite" else "%s"
    sql = (
        f"INSERT INTO {quote(table)} ({', '.join(map(quote, columns))})"
        f" VALUES ({', '.join([mark] * len(columns))})"
    )
    raw = engine.raw_connection()
    cursor = raw.cursor()
    if engine.dialect.name == "postgresql":
        cursor.execute("SET TimeZone = 'UTC'")
    cursor.executemany(sql, map(tuple, rows))
    raw.commit()
    raw.close()
