"""What the tests of the recipes with Debezium share: a table whose changes it reads."""

import json
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Event

from cookbook.paths import ROOT

Batch = list[tuple[str, str | None, str | None]]  # topic, key, value
Deliver = Callable[[Batch], None]
Stream = Callable[[dict[str, str], Deliver, Event], None]

BEGINNING = """
import signal, sys, time
from pathlib import Path
from threading import Event
"""
TO_BE_KILLED = """
producer = make_producer({"bootstrap.servers": servers})

def deliver(batch):
    send(producer, batch)
    if any('"op":"c"' in (value or "") for _, _, value in batch):
        print("delivered", flush=True)
        time.sleep(600)  # killed here: in Kafka, and the offset is not stored
    print("snapshot", flush=True)

stream(settings, deliver, Event())
"""
TO_BE_ENDED = """
stopping = Event()
signal.signal(signal.SIGTERM, lambda *_: stopping.set())
stream(settings, lambda batch: print(len(batch), flush=True), stopping)
print("ended")
"""


class Source(ABC):
    """A table, with the recipe's function that reads its changes."""

    stream: Stream  # the recipe's, as a staticmethod
    offset: Path  # the file that keeps how far it has read
    code: str  # what imports the recipe and makes its `settings` in another process

    @abstractmethod
    def recipe_settings(self, table: str) -> dict[str, str]:
        """What the recipe gives to Debezium."""

    @abstractmethod
    def run(self, *statements: str) -> list[tuple]:
        """Execute them, each in a transaction; return the rows of the last."""

    def wait_until_free(self) -> None:
        """Wait until the server knows that its reader has gone."""

    def settings(self, **more: str) -> dict[str, str]:
        """Those of the recipe for the table, or for another; `a_b` is Debezium's a.b"""
        made = self.recipe_settings(more.pop("table", "item"))
        return made | {key.replace("_", "."): value for key, value in more.items()}

    @contextmanager
    def streaming(
        self, to: Deliver, **more: str
    ) -> Iterator[Callable[[Callable[[], object]], None]]:
        """Run it in the background; gives a function that waits for a condition."""
        stopping = Event()
        with ThreadPoolExecutor(1) as pool:
            running: Future = pool.submit(
                self.stream, self.settings(**more), to, stopping
            )

            def until(condition: Callable[[], object]) -> None:
                end = time.monotonic() + 60
                while not condition():
                    if running.done():
                        running.result()
                    assert time.monotonic() < end
                    time.sleep(0.01)

            try:
                yield until
            finally:
                stopping.set()
            running.result(timeout=60)
        self.wait_until_free()

    def collect(self, count: int, *statements: str, **more: str) -> Batch:
        """The first events: those of the table as it is, then of the statements.

        The statements are executed when the snapshot is there, or at once if there is
        an offset already.
        """
        found: Batch = []
        with self.streaming(found.extend, **more) as until:
            if not self.offset.exists():
                until(lambda: found)
            if statements:
                self.run(*statements)
            until(lambda: len(found) >= count)
        assert len(found) == count
        return found

    @contextmanager
    def process(self, code: str, *words: object) -> Iterator[subprocess.Popen]:
        """Run the code after the source's own, which reads the words."""
        with subprocess.Popen(
            [sys.executable, "-c", BEGINNING + self.code + code],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as running:
            try:
                assert running.stdin
                running.stdin.write(" ".join(map(str, words)))
                running.stdin.close()
                yield running
            finally:
                running.kill()
        self.wait_until_free()


def events(batch: Batch) -> list[dict]:
    return [json.loads(value) for _, _, value in batch if value is not None]


def kinds(batch: Batch) -> list[str]:
    return [json.loads(value)["op"] if value else "tombstone" for *_, value in batch]


class Sending(list):
    """Sends batches to Kafka, and holds the changes that it has sent."""

    def __init__(self, send: Callable, producer) -> None:
        self.send = send
        self.producer = producer

    def __call__(self, batch: Batch) -> None:
        self.send(self.producer, batch)
        self.extend(batch)
