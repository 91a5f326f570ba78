# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Time your queries.

By name and by outcome, in a histogram that stays small however many there are. An
average hides the one user in twenty who waits; a failed query is not a fast one.
"""

import os
import sys
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import accumulate
from threading import Lock
from time import perf_counter

import psycopg

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)

# --8<-- [start:time]
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Timings:
    """How long queries took: counts for each name and outcome. Share it by threads."""

    def __init__(self, clock: Callable[[], float] = perf_counter) -> None:
        self._clock = clock
        self._lock = Lock()
        self._counts: dict[tuple[str, str], list[int]] = defaultdict(
            lambda: [0] * (len(BOUNDS) + 1)  # the last one: longer than all bounds
        )

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Time the block. Put the fetch into it: rows take time, too.

        name is yours, such as `orders_of_customer`: few names, and no value in them.
        The outcome is `ok`, or the name of the error, which reaches the caller.
        """
        outcome = "ok"
        started = self._clock()
        try:
            yield
        except BaseException as error:
            outcome = type(error).__name__
            raise
        finally:
            bucket = bisect_left(BOUNDS, self._clock() - started)
            with self._lock:
                self._counts[name, outcome][bucket] += 1

    def outcomes(self) -> dict[tuple[str, str], int]:
        """How many ended in which way, by name and outcome."""
        with self._lock:
            return {key: sum(counts) for key, counts in sorted(self._counts.items())}

    def quantile(self, name: str, share: float, outcome: str = "ok") -> float:
        """Seconds within which that share (0 to 1) ended: the bound of a bucket.

        inf: more than the greatest bound. ValueError: there was none of that name.
        """
        with self._lock:
            counts = list(self._counts.get((name, outcome), ()))
        if not any(counts) or not 0 < share <= 1:
            raise ValueError(f"no share {share} of {name!r} with outcome {outcome!r}")
        reached = bisect_left(list(accumulate(counts)), share * sum(counts))
        return (*BOUNDS, float("inf"))[reached]


# --8<-- [end:time]


# --8<-- [start:use]
def pause(conn: psycopg.Connection, timings: Timings, seconds: float) -> None:
    """A query that takes that long."""
    with timings.timed("pause"):
        conn.execute("SELECT pg_sleep(%s)", (seconds,)).fetchall()


# --8<-- [end:use]


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    timings = Timings()
    with psycopg.connect(url, connect_timeout=5, autocommit=True) as conn:
        for _ in range(19):
            pause(conn, timings, 0)
        pause(conn, timings, 0.26)
        conn.execute("SET statement_timeout = '10ms'")
        with suppress(psycopg.errors.QueryCanceled):
            pause(conn, timings, 5)
    for (name, outcome), count in timings.outcomes().items():
        print(f"{name}: {count} ended with {outcome}")
    print("the slowest took over 0.25 s:", timings.quantile("pause", 1) > 0.25)


if __name__ == "__main__":
    main()
