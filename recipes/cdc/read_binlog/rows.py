"""The rows of an event, as Python has them: exactly, or not at all."""

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from pymysqlreplication.constants import FIELD_TYPE, NONE_SOURCE
from pymysqlreplication.row_event import DeleteRowsEvent, RowsEvent

# --8<-- [start:decode]
Row = dict[str, Any]
DECODED = {None, "ascii", "binary", "cp1252", "utf8"}  # UTF-16, for one, is not


class Change(NamedTuple):
    old: Row  # empty for an insert
    new: Row  # empty for a delete


class NotInRowsError(Exception):
    """The log does not say, row by row and exactly, what has changed."""


def decode(it: RowsEvent, row: Row) -> Change:
    """Raises NotInRowsError: a value that cannot be had exactly."""
    images = [i for i in ("", "before_", "after_") if f"{i}values" in row]
    rows = [exact(it, row[f"{i}values"], row[f"{i}none_sources"]) for i in images]
    if isinstance(it, DeleteRowsEvent):
        rows.append({})
    return Change(*[{}, *rows][-2:])


def exact(it: RowsEvent, row: Row, why_none: dict[str, str]) -> Row:
    for column in it.columns:
        name, value = column.name, row.get(column.name)
        why = why_none.get(name, NONE_SOURCE.NULL)
        if why == NONE_SOURCE.EMPTY_SET:
            row[name] = set()
        elif not name or why != NONE_SOURCE.NULL or is_misread(column, value):
            raise NotInRowsError(f"{it.schema}.{it.table}, {name}: {value!r}, {why}")
        elif column.type == FIELD_TYPE.TIMESTAMP2 and value:
            row[name] = value.replace(tzinfo=UTC)
        elif column.character_set_name == "binary" and value is not None:
            row[name] = value or b""
            if column.type == FIELD_TYPE.STRING:  # the log leaves out zeros at the end
                row[name] = row[name].ljust(column.max_length, b"\0")
    return row


def is_misread(column: Any, value: Any) -> bool:
    """Whether mysql-replication may take it for another value."""
    match value:
        case timedelta():
            return value < timedelta() and value.microseconds > 0
        case datetime():  # which is what it makes of the TIMESTAMP zero
            is_zero = value.isoformat() == "1970-01-01T00:00:00"
            return is_zero and column.type == FIELD_TYPE.TIMESTAMP2
        case str() | bytes():
            return column.character_set_name not in DECODED
    return False


# --8<-- [end:decode]
