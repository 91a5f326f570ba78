# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Import a CSV file of which some rows are bad.

You say what each column holds. Rows that fit are loaded; the others go to a file of
their own, with line and reason. Every row of the file is in one place or the other.
"""

import csv
import os
import re
import sys
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

# --8<-- [start:types]
Convert = Callable[[str], Any]  # raises ValueError
Types = Mapping[str, Convert]


def whole(field: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,9}", field):  # int() takes 1_000 and " 7 " too
        raise ValueError(f"{field!r} is no whole number of at most 9 digits")
    return int(field)


def money(field: str) -> Decimal:
    if not re.fullmatch(r"-?[0-9]{1,8}(\.[0-9]{1,2})?", field):
        raise ValueError(f"{field!r} is no amount such as 1234.50")
    return Decimal(field)


def optional(convert: Convert) -> Convert:
    return lambda field: convert(field) if field else None


# --8<-- [end:types]


# --8<-- [start:import]
def import_csv(
    conn: psycopg.Connection,
    table: str,
    path: Path,
    types: Types,
    rejects: Path,
    encoding: str = "utf-8-sig",  # with a byte order mark, or without
) -> tuple[int, int]:
    """Append the rows that fit to table ("name" or "schema.name"), in one transaction.

    rejects gets the others: line, reason, fields as they were. Returns the numbers of
    both. Nothing is loaded if it raises ValueError (header), csv.Error (a quote that
    never ends) or psycopg.Error (the server refuses a row).
    """
    columns = sql.SQL(", ").join(map(sql.Identifier, types))
    target = sql.Identifier(*table.split("."))
    copy_in = sql.SQL("COPY {} ({}) FROM STDIN").format(target, columns)
    # What is not of the encoding is kept, marked, and found row by row.
    how: Any = {"encoding": encoding, "errors": "surrogateescape", "newline": ""}
    rejected = 0
    with path.open(**how) as source, rejects.open("w", **how) as out:
        reader, writer = csv.reader(source, strict=True), csv.writer(out)
        header = next(reader, [])
        if sorted(header) != sorted(types):
            raise ValueError(f"the header is {header}, not {list(types)}")
        writer.writerow(["line", "reason", *header])
        with conn.transaction(), conn.cursor() as cur:
            with cur.copy(copy_in) as copy:
                line = reader.line_num + 1  # where a row begins: it may have many
                for fields in reader:
                    try:
                        if fields:  # an empty line is no row
                            copy.write_row(_convert(header, fields, types))
                    except ValueError as error:
                        writer.writerow([line, error, *fields])
                        rejected += 1
                    line = reader.line_num + 1
            return cur.rowcount, rejected


def _convert(header: list[str], fields: list[str], types: Types) -> list[Any]:
    if len(fields) != len(header):
        raise ValueError(f"{len(fields)} fields, not {len(header)}")
    if re.search("[\0\ud800-\udfff]", "".join(fields)):  # cannot be stored
        raise ValueError("a byte is 0, or not of the file's encoding")
    row, values = dict(zip(header, fields, strict=True)), []
    for name, convert in types.items():
        try:
            values.append(convert(row[name]))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return values


# --8<-- [end:import]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)

TABLE = "CREATE TABLE article (code text, name text, price numeric(10, 2), since date)"
ARTICLES = """\
code,name,price,since
00123,"Tea, green",3.20,2026-01-31
00124,Pot,"1.234,50",2026-01-31
00125,NA,19.99,
00126,Cup,2.50,31.12.2019
"""


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    path, rejects = Path("articles.csv"), Path("articles.rejected.csv")
    path.write_text(ARTICLES, encoding="utf-8")
    since = optional(date.fromisoformat)
    types: Types = {"code": str, "name": str, "price": money, "since": since}
    with psycopg.connect(url, connect_timeout=5) as conn:
        conn.execute(TABLE)
        print(*import_csv(conn, "article", path, types, rejects), sep=" loaded, ")
        for row in conn.execute("SELECT * FROM article ORDER BY code"):
            print(*row, sep=" | ")
    print(rejects.read_text(encoding="utf-8-sig").rstrip())
    path.unlink()
    rejects.unlink()


if __name__ == "__main__":
    main()
