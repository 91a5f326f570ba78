# /// script
# requires-python = ">=3.11"
# dependencies = ["sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Let the schema refuse bad data.

A check in one program protects from that program. A constraint protects from all of
them, at any moment. Ask first which rows of an old table would break it.
"""

import os
import sys
from typing import Any

import sqlalchemy as sa

# --8<-- [start:schema]
metadata = sa.MetaData()
SHORT = sa.String(20).with_variant(sa.Text(), "sqlite")  # STRICT knows no VARCHAR

concert = sa.Table("concert", metadata, sa.Column("id", sa.Integer, primary_key=True))
booking = sa.Table(
    "booking",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("concert_id", sa.Integer, nullable=False),
    sa.Column("seat", SHORT, nullable=False),
    sa.Column("cents", sa.Integer, nullable=False),
    sa.Column("voucher", SHORT),  # none, or one that nobody else used
    sa.ForeignKeyConstraint(["concert_id"], [concert.c.id], "booking_concert"),
    sa.UniqueConstraint("concert_id", "seat", name="booking_seat_once"),
    sa.UniqueConstraint("voucher", name="booking_voucher_once"),
    sa.CheckConstraint("seat <> ''", "booking_seat"),
    sa.CheckConstraint("cents BETWEEN 0 AND 100000", "booking_cents"),
    sqlite_strict=True,
)
# --8<-- [end:schema]


# --8<-- [start:open]
SQL_MODE = "SET sql_mode = CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')"
PRAGMA = "PRAGMA foreign_keys = ON"
STRICT = {"mysql": SQL_MODE, "mariadb": SQL_MODE, "sqlite": PRAGMA}


def open_engine(url: str) -> sa.Engine:
    """An engine whose every connection enforces what the schema says."""
    engine = sa.create_engine(url)
    if statement := STRICT.get(engine.dialect.name):

        @sa.event.listens_for(engine, "connect")
        def be_strict(connection: Any, _record: object) -> None:
            cursor = connection.cursor()
            cursor.execute(statement)
            cursor.close()

    return engine


# --8<-- [end:open]


# --8<-- [start:find]
def what_breaks(table: sa.Table) -> dict[str, sa.ColumnElement[bool]]:
    """For each constraint of the table, what is true of the rows that break it."""
    broken: dict[str, Any] = {
        f"{column.name} NOT NULL": column.is_(None)
        for column in table.columns
        if not column.nullable
    }
    for rule in table.constraints:
        name = str(rule.name or "PRIMARY KEY")
        if isinstance(rule, sa.CheckConstraint):
            broken[name] = sa.text(f"NOT ({rule.sqltext})")  # a NULL breaks no check
        elif isinstance(rule, sa.ForeignKeyConstraint):
            parent = rule.referred_table.alias()
            pairs = [(key.parent, parent.c[key.column.key]) for key in rule.elements]
            lost = ~sa.exists().where(*(child == one for child, one in pairs))
            broken[name] = sa.and_(lost, *(child.is_not(None) for child, _ in pairs))
        elif isinstance(rule, sa.UniqueConstraint | sa.PrimaryKeyConstraint):
            twice = sa.select(*rule.columns).group_by(*rule.columns)
            twice = twice.having(sa.func.count() > 1)
            broken[name] = sa.tuple_(*rule.columns).in_(twice)
    return broken


def find_bad_rows(
    conn: sa.Connection, table: sa.Table, limit: int = 100
) -> dict[str, list[sa.Row[Any]]]:
    """Up to limit rows for each constraint that the stored table would break.

    The stored table has the columns of `table`, and need not have its constraints.
    """
    found = {
        name: list(conn.execute(sa.select(table).where(broken).limit(limit)))
        for name, broken in what_breaks(table).items()
    }
    return {name: rows for name, rows in found.items() if rows}


# --8<-- [end:find]

NO_SERVER = (
    "Set DATABASE_URL, for example"
    " postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"
)
OLD = """CREATE TABLE booking
(id int, concert_id int, seat varchar(20), cents int, voucher varchar(20))"""
ROWS = [(1, 1, "A1", 2500, "X"), (2, 1, "A1", 2500, None), (3, 9, "B2", -1, None)]


def main() -> None:
    url = os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER)
    engine = open_engine(url)
    with engine.begin() as conn:
        conn.execute(sa.text(OLD))
        concert.create(conn)
        conn.execute(concert.insert().values(id=1))
        conn.execute(booking.insert().values(ROWS))
        for name, bad in sorted(find_bad_rows(conn, booking).items()):
            print(f"{name}: broken by {[row.id for row in bad]}")
        booking.drop(conn)
        booking.create(conn)
    for row in ROWS:
        try:
            with engine.begin() as conn:
                conn.execute(booking.insert().values(row))
            print(f"booking {row[0]}: stored")
        except sa.exc.DBAPIError:  # PyMySQL: a check is no IntegrityError on MySQL
            print(f"booking {row[0]}: refused")
    engine.dispose()


if __name__ == "__main__":
    main()
