"""One run, and all that follows: the history, the report, the alert."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from . import alert, history, report, runner
from .config import Config, secret
from .database import open_engine
from .status import Run


# --8<-- [start:perform]
def perform(config: Config, now: datetime, mail: bool) -> tuple[Run, list[str]]:
    """A run, and what went wrong after the checks: one failure stops no other step.

    Raises ConfigError.
    """
    engine = open_engine(secret(config.database.url_env).get_secret_value())
    kept_in = open_engine(
        secret(config.history.url_env or config.database.url_env).get_secret_value()
    )
    problems: list[str] = []
    past: list[history.Past] = []
    page = ""
    try:
        run = runner.run(engine, config, now)
        with told(problems, "the history was not kept"):
            history.save(kept_in, run, config.history.keep_days)
            start = run.checked_at - timedelta(days=config.history.keep_days)
            past += history.since(kept_in, run.name, start)
    finally:
        engine.dispose()
        kept_in.dispose()
    with told(problems, "the report was not written"):
        page = report.render(run, past)
        report.write(config.report.file, page)
    if mail and config.alert and alert.is_due(config.alert, run):
        with told(problems, "the alert was not sent"):
            alert.send(config.alert, alert.message(config.alert, run, past, page))
    return run, problems


@contextmanager
def told(problems: list[str], what: str) -> Iterator[None]:
    """Whatever goes wrong in it: a line, and the next step."""
    try:
        yield
    except Exception as error:
        problems.append(f"{what}: {runner.describe(error)}")


# --8<-- [end:perform]
