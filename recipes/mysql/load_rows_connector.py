# /// script
# requires-python = ">=3.11"
# dependencies = ["mysql-connector-python>=9.4"]
# ///
"""Load many rows with LOAD DATA LOCAL and mysql-connector-python.

For thousands of rows and more. They go through a temporary file; an error while they
are made, or one that does not fit, and nothing is stored.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from itertools import filterfalse, islice
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from types import NoneType
from typing import Any
from urllib.parse import unquote, urlsplit

from mysql.connector import MySQLConnection
from mysql.connector.abstracts import MySQLConnectionAbstract as Connection

Row = Sequence[object]


def connect(url: str) -> Connection:
    """Open mysql://user:password@host:port/database; the caller closes it."""
    parts = urlsplit(url)
    return MySQLConnection(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=unquote(parts.path[1:]),
        connection_timeout=5,
        read_timeout=600,  # the answer comes when all is loaded
        allow_local_infile=True,  # sends no file but the one that we name
    )


# --8<-- [start:load]
def load_rows(
    conn: Connection, table: str, columns: Iterable[str], rows: Iterable[Row]
) -> int:
    """Load all rows, or none, and commit; return how many.

    Raises TypeError for a value that cannot be loaded, ValueError for a row that does
    not fit, or was there. Then what was pending on conn is rolled back too.
    """
    sql = f"""
        LOAD DATA LOCAL INFILE %s INTO TABLE {quote(table)} CHARACTER SET utf8mb4
        ({", ".join(map(quote, columns))})"""
    try:
        with TemporaryDirectory() as folder, conn.cursor() as cursor:
            path = Path(folder, "rows.tsv")
            with path.open("w", encoding="utf-8", newline="") as file:
                file.writelines(lines(rows))
            cursor.execute(sql, (str(path),))
            count = cursor.rowcount
            if cursor.warning_count:  # LOCAL turns errors into warnings
                cursor.execute("SHOW WARNINGS LIMIT 1")
                raise ValueError(f"warnings, the first: {cursor.fetchall()}")
        conn.commit()
    finally:
        if conn.is_connected():
            conn.rollback()  # does nothing after the commit
    return count


def quote(name: str) -> str:
    """Return the name of a table or column, quoted for SQL."""
    return f"`{name.replace('`', '``')}`"


def lines(rows: Iterable[Row]) -> Iterator[str]:
    """Make the lines that LOAD DATA reads when no FIELDS clause says otherwise."""
    source = iter(rows)
    while chunk := list(islice(source, 300)):
        columns = map(encode, zip(*chunk, strict=True))  # a column at a time is fast
        yield "\n".join(map("\t".join, zip(*columns, strict=True))) + "\n"


def encode(column: Sequence[Any]) -> Iterable[str]:
    """Return the values of a column as LOAD DATA reads them."""
    kinds = {*map(type, column)}
    for unknown in kinds - FIELDS.keys():
        raise TypeError(f"cannot load a {unknown.__name__}")
    for kind in kinds & GOOD.keys():
        of_kind = column if kinds == {kind} else (v for v in column if type(v) is kind)
        for wrong in filterfalse(GOOD[kind], of_kind):
            raise TypeError(f"cannot load {wrong}")
    if kinds == {str} and not any(map("".join(column).count, "\\\t\n")):
        return column
    if len(kinds) == 1:
        return map(FIELDS[kinds.pop()], column)
    return [FIELDS[type(value)](value) for value in column]


ESCAPES = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n"})
FIELDS: dict[type, Callable[[Any], str]] = {
    str: lambda text: text.translate(ESCAPES),
    NoneType: lambda _: r"\N",
    bool: lambda flag: str(int(flag)),
    datetime: datetime.isoformat,
    **dict.fromkeys((int, float, Decimal, date, time), str),
}
GOOD: dict[type, Callable[[Any], bool]] = {
    float: isfinite,
    Decimal: Decimal.is_finite,
    datetime: lambda at: at.tzinfo is None,
    time: lambda at: at.tzinfo is None,
}
# --8<-- [end:load]

NO_SERVER = (
    "Set MYSQL_URL, for example mysql://cook:cook@127.0.0.1:13306/cookbook"
    " after `docker compose up -d --wait mysql`"
)


def main() -> None:
    url = os.environ.get("MYSQL_URL") or sys.exit(NO_SERVER)
    with connect(url) as conn, conn.cursor() as cursor:
        cursor.execute("CREATE TABLE city (id INT PRIMARY KEY, name TEXT)")
        rows = ((number, f"City {number}") for number in range(1000))
        print("loaded:", load_rows(conn, "city", ["id", "name"], rows))
        try:
            load_rows(conn, "city", ["id", "name"], [(1000, "Oslo"), (7, "Rome")])
        except ValueError as error:
            print("refused:", "Duplicate entry '7'" in str(error))
        cursor.execute("SELECT COUNT(*) FROM city")
        print("in the table:", *cursor.fetchall()[0])


if __name__ == "__main__":
    main()
