"""What Debezium is told about a MariaDB table."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

# --8<-- [start:settings]
FILES = "io.debezium.storage.file.history.FileSchemaHistory"


def for_mariadb(
    url: str, name: str, table: str, state: Path, server_id: int
) -> dict[str, str]:
    """name: of the engine, and the topics' first part. table: in the URL's database.

    state: a folder that must survive, for the offset and the tables' history.
    server_id: no other reader or replica may have it. The result holds the password.
    """
    parts = urlsplit(url)
    database = unquote(parts.path[1:])
    return {
        "name": name,
        "connector.class": "io.debezium.connector.mariadb.MariaDbConnector",
        "database.hostname": parts.hostname or "",
        "database.port": str(parts.port or 3306),
        "database.user": unquote(parts.username or ""),
        "database.password": unquote(parts.password or ""),
        "database.server.id": str(server_id),
        "database.include.list": database,
        "table.include.list": f"{database}.{table}",
        "topic.prefix": name,
        "offset.storage": "org.apache.kafka.connect.storage.FileOffsetBackingStore",
        "offset.storage.file.filename": str(state / "offset"),
        "offset.flush.interval.ms": "0",  # after each batch, not once a minute
        "schema.history.internal": FILES,
        "schema.history.internal.file.filename": str(state / "history"),
        "schema.history.internal.store.only.captured.tables.ddl": "true",
        "include.schema.changes": "false",
        "heartbeat.interval.ms": "10000",
        "decimal.handling.mode": "string",
        "time.precision.mode": "isostring",
        "key.converter.schemas.enable": "false",
        "value.converter.schemas.enable": "false",
    }


# --8<-- [end:settings]
