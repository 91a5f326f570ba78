# /// script
# requires-python = ">=3.11"
# dependencies = ["oracledb>=3.4"]
# ///
"""Read rows as dicts, or as objects of a dataclass.

A tuple breaks when somebody adds a column. Rows with names do not, if two columns of
one name are an error, money is exact, and no row is read before it is needed.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

import oracledb

NO_SERVER = (
    "Set ORACLE_DSN, for example cook/cook@127.0.0.1:11521/FREEPDB1"
    " after `docker compose up -d --wait oracle`"
)


# --8<-- [start:dicts]
def read_dicts(
    conn: oracledb.Connection, query: str, **binds: Any
) -> Iterator[dict[str, Any]]:
    """Yield each row as a dict, with names in lower case.

    Raises ValueError when two columns have one name.
    """
    with conn.cursor() as cursor:
        cursor.outputtypehandler = exact
        # LOBs as text and bytes: one that is read later needs its connection.
        cursor.execute(query, binds, fetch_lobs=False)
        names = lower_names(column.name for column in cursor.description or ())
        for row in cursor:
            yield dict(zip(names, row, strict=True))


def exact(cursor: oracledb.Cursor, column: oracledb.FetchInfo) -> oracledb.Var | None:
    """Let numbers be Decimal, but those of a column of whole numbers int."""
    if column.type_code is oracledb.DB_TYPE_NUMBER and column.scale != 0:
        return cursor.var(Decimal, arraysize=cursor.arraysize)
    return None  # as the driver likes it


def lower_names(names: Iterable[str]) -> list[str]:
    """Return names in lower case. Raises ValueError when one of them comes twice."""
    lower = [name.lower() for name in names]
    if twice := {name for name in lower if lower.count(name) > 1}:
        raise ValueError(f"give these columns names of their own: {sorted(twice)}")
    return lower


# --8<-- [end:dicts]


# --8<-- [start:objects]
T = TypeVar("T")


def read_objects(
    conn: oracledb.Connection, make: Callable[..., T], query: str, **binds: Any
) -> Iterator[T]:
    """Yield make(column=value, ...) for each row.

    Raises TypeError when make has no such parameter, or misses one.
    """
    for row in read_dicts(conn, query, **binds):
        yield make(**row)


@dataclass(frozen=True)
class Item:
    id: int
    name: str
    price: Decimal
    note: str | None


# --8<-- [end:objects]


def main() -> None:
    dsn = os.environ.get("ORACLE_DSN") or sys.exit(NO_SERVER)
    with oracledb.connect(dsn, tcp_connect_timeout=5) as conn, conn.cursor() as cursor:
        conn.call_timeout = 30_000  # milliseconds
        cursor.execute(
            "CREATE TABLE item (id NUMBER(9), name VARCHAR2(50),"
            " price NUMBER(9, 2), note CLOB)"
        )
        cursor.executemany(
            "INSERT INTO item VALUES (:1, :2, :3, :4)",
            [(1, "cup", Decimal("4.10"), "blue"), (2, "pot", Decimal("18.00"), None)],
        )
        conn.commit()
        for row in read_dicts(conn, "SELECT name, price FROM item ORDER BY id"):
            print(row["name"], "costs", row["price"])
        query = "SELECT * FROM item WHERE price < :limit"
        print(*read_objects(conn, Item, query, limit=10))
        try:
            next(read_dicts(conn, "SELECT a.id, b.id FROM item a, item b"))
        except ValueError as error:
            print(error)


if __name__ == "__main__":
    main()
