"""Debezium's engine, in this process."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any

from jpype import JClass, JException, JProxy, isJVMStarted, startJVM

# --8<-- [start:jvm]
JVM = [
    "-Xrs",  # SIGTERM and Ctrl+C are Python's
    "-Xmx512m",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",  # to stderr
]


def start(jars: Path) -> None:
    """Start Java, once in a process, with the jars of that folder.

    Raises FileNotFoundError: no Debezium there.
    """
    if not any(jars.glob("debezium-connector-mariadb-*.jar")):
        raise FileNotFoundError(f"no connector for MariaDB in {jars}")
    if not isJVMStarted():
        startJVM(*JVM, classpath=[str(jars / "*")])
        log = JClass("java.util.logging.Logger").getLogger("")
        log.setLevel(JClass("java.util.logging.Level").WARNING)


# --8<-- [end:jvm]

# --8<-- [start:stream]
Batch = list[tuple[str, str | None, str | None]]  # topic, key, value; JSON

ENGINE = "io.debezium.engine.DebeziumEngine"


def stream(
    settings: dict[str, str], send: Callable[[Batch], None], stopping: Event
) -> None:
    """Call `send` with one batch of changes after another, until `stopping` is set.

    A batch is done when `send` returns. What is not done comes again after a restart.
    Raises what `send` raises, and RuntimeError with Debezium's reason to end.
    """
    properties = JClass("java.util.Properties")()
    for name, value in settings.items():
        properties.setProperty(name, value)
    failed: list[BaseException] = []
    ended: list[tuple[Any, ...]] = []

    def handle(records: Any, committer: Any) -> None:
        try:
            send(plain(records))
        except BaseException as error:
            failed.append(error)
            raise  # Debezium ends, and the offset stays where it was
        for record in records:
            committer.markProcessed(record)
        committer.markBatchFinished()  # stores the offset

    with ThreadPoolExecutor(2) as pool:  # threads of Python, which debuggers see
        calls = {"handleBatch": lambda *batch: pool.submit(handle, *batch).result()}
        ends = {"handle": lambda *how: ended.append(how)}
        engine = (
            JClass(ENGINE)
            .create(JClass("io.debezium.engine.format.Json"))
            .using(properties)
            .using(JProxy(f"{ENGINE}$CompletionCallback", ends))
            .notifying(JProxy(f"{ENGINE}$ChangeConsumer", calls))
            .build()
        )
        running = pool.submit(engine.run)
        try:
            while not running.done() and not stopping.wait(0.1):
                pass
        finally:
            while not running.done():
                with suppress(JException):  # it refuses while it starts
                    engine.close()
                wait([running], 0.1)
    if failed:
        raise failed[0]
    running.result()
    ((success, message, _),) = ended
    if not success:
        raise RuntimeError(str(message))


def plain(records: Any) -> Batch:
    """Java's records without Debezium's heartbeats, which only move the offset."""
    found: Batch = []
    for record in records:
        key, value = record.key(), record.value()
        if not (topic := str(record.destination())).startswith("__debezium-heartbeat"):
            found.append((topic, key and str(key), value and str(value)))
    return found


# --8<-- [end:stream]
