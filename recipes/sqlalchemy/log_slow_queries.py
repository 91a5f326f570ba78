# /// script
# requires-python = ">=3.11"
# dependencies = ["sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Log slow statements.

Only those that took long, with their time and without their values: what users typed
does not belong in a log. Statements that fail are timed as well.
"""

import logging
import os
import sys
from time import perf_counter
from typing import Any

from sqlalchemy import Engine, create_engine, event, text
from sqlalchemy.engine import ExceptionContext


# --8<-- [start:log]
def log_slow_statements(engine: Engine, seconds: float, logger: logging.Logger) -> None:
    """Warn of each statement that takes that long or longer, from now on.

    The record has the attributes `statement` and `seconds`. Call it once an engine;
    for an AsyncEngine give `engine.sync_engine`.
    """

    def report(what: str, context: Any) -> None:
        took = perf_counter() - context.started
        if took >= seconds:
            statement = " ".join(context.statement.split())
            extra = {"statement": statement, "seconds": took}
            logger.warning("%s after %.3f s: %s", what, took, statement, extra=extra)

    @event.listens_for(engine, "before_cursor_execute")
    def begin(_1: Any, _2: Any, _3: Any, _4: Any, context: Any, _5: Any) -> None:
        context.started = perf_counter()  # not conn.info, which outlives the statement

    @event.listens_for(engine, "after_cursor_execute")
    def end(_1: Any, _2: Any, _3: Any, _4: Any, context: Any, _5: Any) -> None:
        report("slow", context)

    @event.listens_for(engine, "handle_error")
    def fail(error: ExceptionContext) -> None:
        if hasattr(error.execution_context, "started"):
            report("failed", error.execution_context)


# --8<-- [end:log]

NO_SERVER = (
    "Set DATABASE_URL, for example"
    " postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"
)


def main() -> None:
    url = os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("{levelname}: {statement}", style="{"))
    logger = logging.getLogger("app.slow")
    logger.addHandler(handler)
    engine = create_engine(url)
    with engine.connect() as conn:
        conn.execute(text("SELECT 1"))
        log_slow_statements(engine, seconds=0, logger=logger)  # 0: all; 0.5 is usual
        conn.execute(text("SELECT 42\n  AS answer"))
    engine.dispose()


if __name__ == "__main__":
    main()
