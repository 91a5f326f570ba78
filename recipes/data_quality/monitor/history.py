"""Every result, in a table of its own, for as long as the configuration says."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Engine,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    delete,
    insert,
    select,
)
from sqlalchemy.types import TypeDecorator

from .status import Run, Status


class UTCDateTime(TypeDecorator[datetime]):
    """Aware in Python, UTC in the database: not every engine keeps an offset."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return value and value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(
        self, value: datetime | None, dialect: Dialect
    ) -> datetime | None:
        return value.replace(tzinfo=UTC) if value else None


# --8<-- [start:history]
metadata = MetaData()
results = Table(
    "monitor_results",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("monitor", String(100), nullable=False),
    Column("checked_at", UTCDateTime, nullable=False),
    Column("name", String(200), nullable=False),
    Column("kind", String(20), nullable=False),
    Column("status", String(5), nullable=False),
    Column("value", Float(53)),  # NULL where the check could not run
    Column("row_count", BigInteger),
    Column("message", String(1000), nullable=False),
    Column("seconds", Float(53), nullable=False),
    Index("monitor_results_by_time", "monitor", "checked_at"),
)


@dataclass(frozen=True)
class Past:
    """A result as it was kept."""

    checked_at: datetime
    name: str
    kind: str
    status: Status
    value: float | None
    row_count: int | None

    @property
    def measure(self) -> float | None:
        """A share in percent; of freshness the hours, of SQL the number itself."""
        if self.value is None or self.kind in ("freshness", "sql"):
            return self.value
        return 100 * self.value / self.row_count if self.row_count else None


def save(engine: Engine, run: Run, keep_days: int) -> None:
    """Keep the results of a run, and let go of the old: in one transaction."""
    rows = [
        {
            "monitor": run.name,
            "checked_at": run.checked_at,
            "name": result.name,
            "kind": result.kind,
            "status": result.status.value,
            "value": float(result.found.value) if result.found else None,
            "row_count": result.found.rows if result.found else None,
            "message": result.message[:1000],
            "seconds": result.seconds,
        }
        for result in run.results
    ]
    cutoff = run.checked_at - timedelta(days=keep_days)
    old = results.c.monitor == run.name, results.c.checked_at < cutoff
    with engine.begin() as conn:
        metadata.create_all(conn)
        conn.execute(delete(results).where(*old))
        conn.execute(insert(results), rows)


def since(engine: Engine, monitor: str, moment: datetime) -> Sequence[Past]:
    """What was kept since then, the oldest first."""
    wanted = [results.c[name] for name in Past.__dataclass_fields__]
    query = (
        select(*wanted)
        .where(results.c.monitor == monitor, results.c.checked_at >= moment)
        .order_by(results.c.checked_at, results.c.id)
    )
    with engine.begin() as conn:
        metadata.create_all(conn)
        rows = conn.execute(query).mappings()
        return [Past(**{**row, "status": Status(row["status"])}) for row in rows]


# --8<-- [end:history]
