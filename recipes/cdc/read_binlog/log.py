"""The transactions of the log, one after the other."""

import re
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import unquote, urlsplit

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor
from pymysqlreplication import BinLogStreamReader, binlogstream, event, row_event

from .rows import Change, NotInRowsError, decode

# --8<-- [start:read]
binlogstream.MYSQL_EXPECTED_ERROR_CODES.clear()  # or a lost line is not reported
UNREADABLE = {26, 39, 40, *range(165, 172)}  # lost events, partial JSON, compressed
NEEDED = {"format": "ROW", "row_image": "FULL", "row_metadata": "FULL"}
Position = tuple[str, int]  # a file of the log, and an offset in it


def end_of_log(url: str) -> Position:
    """Where the next transaction will be. Raises NotInRowsError: a server's setting."""
    with connect(url, database="") as conn, conn.cursor() as cursor:
        for name, value in NEEDED.items():
            cursor.execute(f"SELECT @@global.binlog_{name}")
            if cursor.fetchone() != (value,):
                raise NotInRowsError(f"the server's binlog_{name} is not {value}")
        cursor.execute("SHOW BINARY LOGS")
        file, offset, *_ = cursor.fetchall()[-1]
    return file, offset


def read(
    url: str, table: str, after: Position, server_id: int, wait: float = 30
) -> Iterator[tuple[Position, list[Change]]]:
    """Yield each transaction: where it ends, and what it changed in the table.

    Ends `wait` seconds after the call (above 0), but not before it has read what was
    committed by then. No other reader or replica may have the server_id. Raises
    NotInRowsError, and OperationalError: no server, line lost, log purged, server_id
    taken.
    """
    until, end = time.monotonic() + wait, end_of_log(url)
    schema = urlsplit(url).path[1:]
    stream = BinLogStreamReader(
        settings(url) | {"database": "", "read_timeout": 2 * wait + 10},
        server_id,
        resume_stream=True,  # or log_pos counts for nothing
        log_file=after[0],
        log_pos=after[1],
        blocking=True,
        slave_heartbeat=wait,  # or it would not end while nobody writes
        only_schemas=[schema],
        only_tables=[table],
        filter_non_implemented_events=False,
        enable_logging=False,
    )
    changes: list[Change] = []
    with closing(stream):
        for it in stream:
            match it:
                case event.MariadbGtidEvent() | event.QueryEvent(query="BEGIN"):
                    changes = []
                case event.XidEvent() | event.QueryEvent(query="COMMIT"):
                    yield (stream.log_file, stream.log_pos), changes
                case event.QueryEvent() if names(it, schema, table):
                    raise NotInRowsError(f"before {stream.log_pos}: {it.query}")
                case event.XAPrepareEvent() if changes:
                    raise NotInRowsError(f"before {stream.log_pos}: XA PREPARE")
                case _ if it.event_type in UNREADABLE:
                    raise NotInRowsError(f"before {stream.log_pos}: {it.event_type}")
                case row_event.RowsEvent():
                    changes += [decode(it, row) for row in it.rows]
            is_late = time.monotonic() > until
            if is_late and (stream.log_file, stream.log_pos) >= end:
                return


def names(it: event.QueryEvent, schema: str, table: str) -> bool:
    """Whether a statement may be about the table: TRUNCATE, for one, logs no rows."""
    words = [schema, table] if it.schema.decode() == schema else [schema]
    pattern = rf"(?<!\w)({'|'.join(map(re.escape, words))})(?!\w)"
    return re.search(pattern, it.query, re.IGNORECASE) is not None


# --8<-- [end:read]


def settings(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {
        "host": parts.hostname or "127.0.0.1",
        "port": parts.port or 3306,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or "").encode(),
        "database": unquote(parts.path[1:]),
        "charset": "utf8mb4",
        "connect_timeout": 5,
        "read_timeout": 90,
    }


def connect(url: str, **others: Any) -> "Connection[Cursor]":
    return pymysql.connect(**settings(url) | others)
