# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Stop asking a database that is down.

A circuit breaker: after some failures in a row callers are refused at once, in place of
waiting for a timeout each. One of them now and then finds out whether it is back.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock

import psycopg

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


# --8<-- [start:breaker]
class CircuitOpenError(Exception):
    """The database has failed a moment ago: it was not asked."""


def is_outage(error: psycopg.Error) -> bool:
    """No answer, or one of: no resources (53), shut down or out of time (57)."""
    code = error.sqlstate or ""
    return isinstance(error, psycopg.OperationalError) and code[:2] in ("", "53", "57")


class CircuitBreaker:
    """Share one among all threads that use the same database.

    It opens after that many failures in a row. Then it lets one caller try after each
    pause (seconds); one answer closes it, an error that is no outage included.
    """

    def __init__(
        self,
        failures: int = 5,
        pause: float = 5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most, self._pause, self._clock = failures, pause, clock
        self._failures = 0
        self._next_try = 0.0
        self._lock = Lock()

    @property
    def is_open(self) -> bool:
        return self._failures >= self._most

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Put it around a use of the database. Raises CircuitOpenError at once."""
        with self._lock:  # held for the decision only, not for the use
            now = self._clock()
            if self.is_open:
                if now < self._next_try:
                    raise CircuitOpenError
                self._next_try = now + self._pause  # this caller tries, alone
        try:
            yield
        except psycopg.Error as error:
            with self._lock:
                self._failures = self._failures + 1 if is_outage(error) else 0
                self._next_try = self._clock() + self._pause
            raise
        with self._lock:
            self._failures = 0


# --8<-- [end:breaker]


# --8<-- [start:use]
def count_orders(url: str, breaker: CircuitBreaker) -> int:
    """Count them. Raises OperationalError, or CircuitOpenError: answer with 503."""
    limit = "-c statement_timeout=2s"
    with (
        breaker.guard(),
        psycopg.connect(url, connect_timeout=2, options=limit) as conn,
    ):
        row = conn.execute("SELECT count(*) FROM orders").fetchone()
    return row[0] if row else 0


# --8<-- [end:use]


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with psycopg.connect(url, connect_timeout=5) as conn:
        conn.execute("CREATE TABLE orders (id bigint)")
    now = 0.0
    breaker = CircuitBreaker(failures=2, pause=5, clock=lambda: now)
    nobody = "postgresql://127.0.0.1:1/"  # nobody listens on port 1
    for second, address in enumerate([nobody, nobody, nobody, url, url, url, url, url]):
        now = float(second)
        try:
            print(f"second {second}: {count_orders(address, breaker)} orders")
        except (psycopg.OperationalError, CircuitOpenError) as error:
            print(f"second {second}: {type(error).__name__}")


if __name__ == "__main__":
    main()
