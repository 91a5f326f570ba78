# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "pymysql[rsa]>=1.2", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["postgresql", "mysql"]
# ///
"""Reconcile a table with its copy in another database.

It names every row that is missing, extra or different. Each database adds up its own
checksums, so rows leave it only where the sums differ, a few thousand at a time.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import mysql, postgresql

Kind = Literal["boolean", "date", "decimal", "integer", "moment", "text"]

# --8<-- [start:normal]
UTC: dict[str, dict[str, Any]] = {
    "postgresql": {"connect_timeout": 5, "options": "-c TimeZone=UTC"},
    "mysql": {"init_command": "SET time_zone = '+00:00'", "read_timeout": 600},
}


def open_engine(url: str) -> sa.Engine:
    """Its transactions see one state of the database, and moments in UTC."""
    utc = UTC[sa.make_url(url).get_backend_name()]
    return sa.create_engine(url, connect_args=utc, isolation_level="REPEATABLE READ")


def normal(dialect: str, column: sa.ColumnElement[Any], kind: Kind) -> Any:
    """The column as a text that is the same for the same value on both engines."""
    if dialect == "postgresql":
        text = sa.cast(column, sa.Text)
        moment = sa.func.to_char(column, "YYYY-MM-DD HH24:MI:SS.US")
        return {
            "boolean": sa.cast(sa.cast(column, sa.Integer), sa.Text),
            "decimal": sa.cast(sa.func.trim_scale(column), sa.Text),
            "moment": sa.func.coalesce(moment, text),  # to_char(infinity) is NULL
        }.get(kind, text)
    wide = sa.cast(sa.cast(column, mysql.DECIMAL(65, 30)), mysql.CHAR)
    return {
        "decimal": sa.func.regexp_replace(wide, r"\.?0+$", ""),
        "moment": sa.func.date_format(column, "%Y-%m-%d %H:%i:%s.%f"),
    }.get(kind, sa.cast(column, mysql.CHAR(charset="utf8mb4")))


def digests(dialect: str, columns: Mapping[str, Kind]) -> tuple[Any, Any]:
    """SHA-256 of a row, in hexadecimal; and a sum over rows, in any order."""
    row: Any = sa.literal("")
    for name, kind in columns.items():
        value = normal(dialect, sa.column(name), kind)
        length = sa.cast(sa.func.char_length(value), sa.String)  # "a", "bc" is no "ab"
        row = row + sa.func.coalesce(length + ":" + value, "NULL")
    if dialect == "postgresql":
        sha = sa.func.encode(sa.func.sha256(sa.func.convert_to(row, "UTF8")), "hex")
        bits = sa.cast("x" + sa.func.substr(sha, 1, 15), postgresql.BIT(60))
        return sha, sa.func.sum(sa.cast(bits, sa.BigInteger))
    sha = sa.func.sha2(row, 256)
    whole = sa.func.conv(sa.func.substr(sha, 1, 15), 16, 10)
    return sha, sa.func.sum(sa.cast(whole, mysql.BIGINT(unsigned=True)))


# --8<-- [end:normal]


# --8<-- [start:reconcile]
def reconcile(
    source: sa.Connection,
    copy: sa.Connection,
    table: str,
    key: str,
    columns: Mapping[str, Kind],
    size: int = 10_000,
) -> Iterator[tuple[int, str]]:
    """The key of each row that the copy lacks, has too much, or has with other values.

    In the order of the key, which is a primary key of whole numbers. No more than
    `size` rows of each side are in memory.
    """
    if columns[key] != "integer":
        raise ValueError(f"{key}: texts have another order on each engine")
    sides = [(conn, *digests(conn.dialect.name, columns)) for conn in (source, copy)]
    number = sa.column(key, sa.BigInteger)
    rows = rest = sa.select(number).select_from(sa.table(table))
    while True:
        nth = rest.order_by(number).limit(1).offset(size - 1)
        ends = [conn.scalar(nth) for conn, _, _ in sides]
        high = min((end for end in ends if end is not None), default=None)
        part = rest if high is None else rest.where(number <= high)
        count = part.with_only_columns(sa.func.count())
        sums = [conn.execute(count.add_columns(it)).one() for conn, _, it in sides]
        if sums[0] != sums[1]:
            found = [conn.execute(part.add_columns(it)) for conn, it, _ in sides]
            ours, theirs = (dict(map(tuple, result)) for result in found)
            for k in sorted(dict(ours.items() ^ theirs.items())):
                fault = "different" if k in ours else "extra"
                yield k, fault if k in theirs else "missing"
        if high is None:
            return
        rest = rows.where(number > high)


# --8<-- [end:reconcile]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)
COLUMNS: dict[str, Kind] = {"id": "integer", "amount": "decimal", "at": "moment"}
TABLE = "CREATE TABLE payment (id bigint PRIMARY KEY, amount numeric(12, {}), at {})"


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    source = open_engine(url.replace(":", "+psycopg:", 1))
    copy = open_engine(os.environ["MYSQL_URL"].replace(":", "+pymysql:", 1))
    add = sa.table("payment", *map(sa.column, COLUMNS)).insert()
    noon = "2026-01-01 12:00:00"
    rows: list[Any] = [(n, n, noon) for n in range(1, 101)]
    with source.begin() as ours, copy.begin() as theirs:
        ours.exec_driver_sql(TABLE.format(2, "timestamptz"))
        ours.execute(add.values(rows))
        rows[0], rows[41] = (101, 101, noon), (42, "42.0001", noon)
        theirs.exec_driver_sql(TABLE.format(4, "datetime(6)"))
        theirs.execute(add.values(rows))
        for number, fault in reconcile(ours, theirs, "payment", "id", COLUMNS, size=10):
            print(f"payment {number}: {fault}")
    source.dispose()
    copy.dispose()


if __name__ == "__main__":
    main()
