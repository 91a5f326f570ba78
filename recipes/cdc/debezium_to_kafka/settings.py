"""What Debezium is told about a PostgreSQL table."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg

# --8<-- [start:settings]
# The slot advances where a change is read: this one, while only other tables have any.
HEARTBEAT = "SELECT pg_logical_emit_message(false, 'heartbeat', '')"


def for_postgresql(url: str, name: str, table: str, state: Path) -> dict[str, str]:
    """name: of the slot and the publication, and the topics' first part (a-z, 0-9, _).

    table: `SCHEMA.TABLE`, or several with commas. state: the file of the offset, which
    must survive. The result holds the password of the URL.
    """
    parts = urlsplit(url)
    return {
        "name": name,
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": parts.hostname or "",
        "database.port": str(parts.port or 5432),
        "database.user": unquote(parts.username or ""),
        "database.password": unquote(parts.password or ""),
        "database.dbname": unquote(parts.path[1:]),
        "plugin.name": "pgoutput",
        "slot.name": name,
        "publication.name": name,
        "publication.autocreate.mode": "filtered",  # these tables, not all
        "table.include.list": table,
        "topic.prefix": name,
        "offset.storage.file.filename": str(state),
        "offset.flush.interval.ms": "0",  # after each batch, not once a minute
        "heartbeat.interval.ms": "10000",
        "heartbeat.action.query": HEARTBEAT,
        "message.prefix.exclude.list": "heartbeat",
        "decimal.handling.mode": "string",
        "time.precision.mode": "isostring",
        "key.converter.schemas.enable": "false",
        "value.converter.schemas.enable": "false",
    }


def drop_slot(conn: psycopg.Connection, name: str) -> None:
    """When nobody will read it any more: until then the server keeps its log for it."""
    end = "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots"
    conn.execute(f"{end} WHERE slot_name = %s AND active_pid IS NOT NULL", (name,))
    conn.execute("SELECT pg_drop_replication_slot(%s)", (name,))


# --8<-- [end:settings]
