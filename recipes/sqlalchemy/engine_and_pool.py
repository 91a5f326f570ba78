# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Open an engine with a pool that fails fast.

`QueuePool limit reached` means that connections are not given back in time. Make one
engine for the process, give every wait an end, and watch how long connections are held.
"""

import os
import sys
from threading import Lock
from time import monotonic
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, exc, make_url, text


# --8<-- [start:engine]
def timeouts(backend: str, connect: float, statement: float) -> dict[str, Any]:
    """What the driver calls them; seconds. Raises KeyError for another backend."""
    options = f"-c statement_timeout={round(statement * 1000)}ms"
    mysql = dict.fromkeys(("read_timeout", "write_timeout"), statement)
    mysql["connect_timeout"] = connect
    known: dict[str, dict[str, Any]] = {
        "postgresql": {"connect_timeout": round(connect), "options": options},
        "mysql": mysql,
        "mariadb": mysql,
        "sqlite": {"timeout": connect},  # how long it waits for another writer
    }
    return known[backend]


def open_engine(
    address: str,
    *,
    size: int = 5,
    extra: int = 5,
    wait: float = 5,
    max_age: float = 30 * 60,
    connect: float = 5,
    statement: float = 30,
) -> Engine:
    """An engine, one for each process, with at most size + extra connections; all other
    numbers are seconds. The first connection is opened when it is asked for.

    Its `connect()` raises TimeoutError (of sqlalchemy.exc) after `wait`.
    """
    backend = make_url(address).get_backend_name()
    return create_engine(
        address,
        pool_size=size,
        max_overflow=extra,  # closed when they are given back
        pool_timeout=wait,
        pool_recycle=max_age,  # less than what firewalls and the server allow
        pool_pre_ping=True,
        connect_args=timeouts(backend, connect, statement),
    )


# --8<-- [end:engine]


# --8<-- [start:gauges]
class Gauges:
    """What the pool of an engine has done; read the fields at any time."""

    def __init__(self, engine: Engine) -> None:
        self._lock = Lock()
        self.opened = 0  # connections: grows all the time? they die, or are extra
        self.borrowed = 0
        self.busy = 0  # now
        self.most_busy = 0
        self.longest = 0.0  # seconds that one was held
        event.listen(engine, "connect", self._on_connect)
        event.listen(engine, "checkout", self._on_checkout)
        event.listen(engine, "checkin", self._on_checkin)

    def _on_connect(self, raw: Any, record: Any) -> None:
        with self._lock:
            self.opened += 1

    def _on_checkout(self, raw: Any, record: Any, proxy: Any) -> None:
        record.info["borrowed_at"] = monotonic()
        with self._lock:
            self.borrowed += 1
            self.busy += 1
            self.most_busy = max(self.most_busy, self.busy)

    def _on_checkin(self, raw: Any, record: Any) -> None:
        # None where the borrower invalidated it: its info is gone, and its time.
        held = monotonic() - record.info.pop("borrowed_at", monotonic())
        with self._lock:
            self.busy -= 1
            self.longest = max(self.longest, held)


# --8<-- [end:gauges]


# --8<-- [start:use]
def double(engine: Engine, number: int) -> int:
    """Borrow a connection for this block; an error gives it back as well."""
    with engine.connect() as conn:
        return ask(conn, number) * 2


def ask(conn: Connection, number: int) -> int:
    """Takes the caller's connection: a second one is what empties the pool."""
    return int(conn.execute(text("SELECT :n + 0"), {"n": number}).scalar_one())


# --8<-- [end:use]

NO_SERVER = (
    "Set DATABASE_URL, for example postgresql+psycopg://cook:cook@127.0.0.1:15432"
    "/cookbook or sqlite:///app.db"
)


def main() -> None:
    address = os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER)
    engine = open_engine(address, size=2, extra=0, wait=0.05)
    gauges = Gauges(engine)
    with engine.connect(), engine.connect():
        try:
            double(engine, 21)
        except exc.TimeoutError as error:
            print(str(error).partition(" (")[0])
    print("21 doubled:", double(engine, 21))
    print(f"opened {gauges.opened}, borrowed {gauges.borrowed}, busy {gauges.busy}")
    engine.dispose()


if __name__ == "__main__":
    main()
