"""Checks that tell good rows from bad ones: the database counts the bad."""

from decimal import Decimal

from sqlalchemy import (
    ColumnElement,
    Connection,
    Enum,
    FromClause,
    String,
    Table,
    Text,
    cast,
    func,
    or_,
    select,
)

from .database import column, reflect
from .specs import Completeness, Format, Values
from .status import Found

_EXAMPLES = 5


# --8<-- [start:count_bad]
def count_bad(
    conn: Connection,
    table: Table,
    bad: ColumnElement[bool],
    what: str,
    source: FromClause | None = None,
) -> Found:
    """Count the bad rows, and name the primary keys of the first few."""
    source = table if source is None else source
    rows = conn.scalar(select(func.count()).select_from(table)) or 0
    count = conn.scalar(select(func.count()).select_from(source).where(bad)) or 0
    examples: list[str] = []
    if count and (keys := list(table.primary_key)):
        texts = [cast(key, String(100)) for key in keys]
        query = select(*texts).select_from(source).where(bad).order_by(*keys)
        found = conn.execute(query.limit(_EXAMPLES))
        examples = [", ".join(map(str, row)) for row in found]
    message = f"{count:,} of {rows:,} rows {what}"
    return Found(Decimal(count), rows, message, examples=tuple(examples))


# --8<-- [end:count_bad]


def completeness(conn: Connection, spec: Completeness) -> Found:
    table = reflect(conn, spec.table, spec.in_schema)
    tested = column(table, spec.column)
    missing: ColumnElement[bool] = tested.is_(None)
    if spec.blank_is_missing and _is_text(tested):
        missing = or_(missing, func.trim(tested) == "")
    return count_bad(conn, table, missing, f"have no {spec.column}")


# --8<-- [start:format]
def format_(conn: Connection, spec: Format) -> Found:
    """The engine's own regular expressions; an engine without any is an error."""
    table = reflect(conn, spec.table, spec.in_schema)
    tested = column(table, spec.column)
    text = tested if _is_text(tested) else cast(tested, Text())
    # There a collation would make [A-Z] match "a".
    case_sensitive = "(?-i)" if conn.dialect.name in ("mysql", "mariadb") else ""
    # The whole value: $ would allow a newline after it.
    whole = f"{case_sensitive}^(?:{spec.pattern})(?!.|\\s)"
    what = f"break the format of {spec.column}"
    return count_bad(conn, table, ~text.regexp_match(whole), what)


# --8<-- [end:format]


def values(conn: Connection, spec: Values) -> Found:
    table = reflect(conn, spec.table, spec.in_schema)
    tested = column(table, spec.column)
    bad: list[ColumnElement[bool]] = []
    if spec.allowed is not None:
        bad.append(tested.not_in(spec.allowed))
    if spec.minimum is not None:
        bad.append(tested < spec.minimum)
    if spec.maximum is not None:
        bad.append(tested > spec.maximum)
    return count_bad(conn, table, or_(*bad), f"have {spec.column} out of bounds")


def _is_text(tested: ColumnElement[object]) -> bool:
    return isinstance(tested.type, String) and not isinstance(tested.type, Enum)
