"""Checks of a table as a whole: the database groups and counts."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import (
    TIMESTAMP,
    Connection,
    Date,
    DateTime,
    String,
    cast,
    func,
    select,
)

from .database import CheckError, column, reflect
from .specs import CustomSQL, Distribution, Duplicates, Freshness
from .status import Found

_MOST_FREQUENT = 8


# --8<-- [start:duplicates]
def duplicates(conn: Connection, spec: Duplicates) -> Found:
    """Rows that are there again: by a key, or whole rows save the primary key.

    A key with a NULL in it equals no other, as in a unique constraint.
    """
    table = reflect(conn, spec.table, spec.in_schema)
    if spec.key:
        compared = [column(table, name) for name in spec.key]
        what = f"repeat the {', '.join(spec.key)} of another"
    else:
        ignored = {column(table, name).name for name in spec.ignore}
        ignored |= {key.name for key in table.primary_key}
        compared = [one for one in table.c if one.name not in ignored]
        what = "repeat another row"
    if not compared:
        raise CheckError("all columns are ignored or in the primary key: name a key")
    groups = select(func.count().label("n")).select_from(table).group_by(*compared)
    if spec.key:
        groups = groups.where(*(one.is_not(None) for one in compared))
    many = groups.having(func.count() > 1).subquery()
    surplus = int(conn.scalar(select(func.sum(many.c.n - 1))) or 0)
    rows = conn.scalar(select(func.count()).select_from(table)) or 0
    return Found(Decimal(surplus), rows, f"{surplus:,} of {rows:,} rows {what}")


# --8<-- [end:duplicates]


def distribution(conn: Connection, spec: Distribution) -> Found:
    """How many rows have the same, most frequent value."""
    table = reflect(conn, spec.table, spec.in_schema)
    told = column(table, spec.column)
    count = func.count().label("n")
    rows = conn.scalar(select(func.count()).select_from(table)) or 0
    distinct = conn.scalar(select(func.count(told.distinct()))) or 0
    query = select(cast(told, String(60)), count).group_by(told)
    frequent = conn.execute(query.order_by(count.desc(), told).limit(_MOST_FREQUENT))
    top = tuple((value or str(value), n) for value, n in frequent)
    highest = max((n for _, n in top), default=0)
    share = highest / rows if rows else 0
    message = f"{share:.1%} of {rows:,} rows have the first of {distinct:,} values"
    return Found(Decimal(highest), rows, message, top=top)


# --8<-- [start:freshness]
def freshness(conn: Connection, spec: Freshness, now: datetime) -> Found:
    """The hours since the newest row. Rows in the future hide how old the rest is."""
    table = reflect(conn, spec.table, spec.in_schema)
    when: Any = column(table, spec.column)
    zone = ZoneInfo(spec.time_zone)
    kind, is_text = when.type, conn.dialect.name == "sqlite"
    if is_text:  # SQLite has no type for it, but reads any ISO 8601, offsets too
        stored, when = when, func.datetime(when, type_=String())
        unreadable = select(func.count()).where(stored.is_not(None), when.is_(None))
    elif not isinstance(kind, DateTime | Date):
        raise CheckError(f"{spec.column} is {kind}, not a time")
    if conn.dialect.name in ("mysql", "mariadb") and isinstance(kind, TIMESTAMP):
        zone = ZoneInfo("UTC")  # the session's

    def as_stored(moment: datetime) -> Any:
        local = moment.astimezone(zone)
        if is_text:
            return local.strftime("%Y-%m-%d %H:%M:%S")
        if isinstance(kind, Date):
            return local.date()
        return local if kind.timezone else local.replace(tzinfo=None)

    latest = as_stored(now + timedelta(minutes=float(spec.ahead)))
    rows = conn.scalar(select(func.count()).select_from(table)) or 0
    newest = _aware(conn.scalar(select(func.max(when)).where(when <= latest)), zone)
    ahead = conn.scalar(select(func.count()).where(when > latest)) or 0
    faults = [f"{ahead:,} rows are in the future"] if ahead else []
    if is_text and (odd := conn.scalar(unreadable)):
        faults.append(f"{odd:,} rows hold no time that can be read")
    if newest is None:
        faults.append("nobody knows how old they are")
        return Found(Decimal(0), rows, "no row tells its time", "; ".join(faults))
    hours = max(now - newest, timedelta()) / timedelta(hours=1)
    message = f"the newest of {rows:,} rows is {hours:,.1f} hours old"
    return Found(Decimal(hours), rows, message, "; ".join(faults))


# --8<-- [end:freshness]


def _aware(stored: str | date | None, zone: ZoneInfo) -> datetime | None:
    """What the database answered, in UTC."""
    if stored is None:
        return None
    if isinstance(stored, str):
        stored = datetime.fromisoformat(stored)
    elif not isinstance(stored, datetime):
        stored = datetime.combine(stored, time())
    return (stored if stored.tzinfo else stored.replace(tzinfo=zone)).astimezone(UTC)


def custom_sql(conn: Connection, spec: CustomSQL) -> Found:
    """One number that the query answers, such as a count of bad rows."""
    verbatim = {"no_parameters": True}  # a % or a : in it means nothing to the driver
    result = conn.exec_driver_sql(spec.query, execution_options=verbatim)
    answer = [tuple(row) for row in result.fetchmany(2)] if result.returns_rows else []
    if len(answer) == 1 and len(answer[0]) == 1:
        number = answer[0][0]
        if isinstance(number, int | float | Decimal):
            value = Decimal(str(number))
            if value.is_finite():
                return Found(value, 1, f"the query answered {value:,}")
    raise CheckError(f"the query must answer one number, not {answer}")
