# /// script
# requires-python = ">=3.11"
# dependencies = ["sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Keep secrets out of the logs.

Errors of SQLAlchemy hold the values of the statement, and so do those of the drivers
below. Hide both: logs are read by many, and kept for long.
"""

import logging
import os
import sys
import traceback
from typing import Any

from sqlalchemy import Engine, String, create_engine, insert
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


# --8<-- [start:hide]
def make_engine(url: str) -> Engine:
    """An engine that shows no values: not in errors, not with logging at INFO."""
    return create_engine(url, hide_parameters=True)


def describe(error: BaseException) -> str:
    """The error in one line; of a database error its class and statement alone."""
    if isinstance(error, DBAPIError):
        return f"{type(error.orig).__name__}: {error.statement}"
    return f"{type(error).__name__}: {error}"


class NoValuesFormatter(logging.Formatter):
    """Formats exceptions without what the driver says: it quotes the values.

    Give it to every handler, and log with logger.exception("what failed").
    """

    def formatException(self, ei: Any) -> str:
        error: BaseException | None = ei[1]
        parts = []
        while error:
            parts += [describe(error), *traceback.format_tb(error.__traceback__)]
            if isinstance(error, DBAPIError):
                break  # its cause is the driver's error
            error = error.__cause__ or error.__context__
        return "\n".join(part.rstrip() for part in parts)


# --8<-- [end:hide]


class Base(DeclarativeBase): ...


class User(Base):
    __tablename__ = "app_user"
    token: Mapped[str] = mapped_column(String(50), primary_key=True)


VALUE = "hunter2"
NO_SERVER = (
    "Set DATABASE_URL, for example"
    " postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"
)


def main() -> None:
    url = os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER)
    engine = make_engine(url)
    Base.metadata.create_all(engine)
    try:
        for _ in range(2):
            with engine.begin() as conn:
                conn.execute(insert(User).values(token=VALUE))
    except DBAPIError as error:
        log = NoValuesFormatter().formatException((type(error), error, None))
        print("the log holds the token:", VALUE in log)
        print("SQLAlchemy hides it:", "hide_parameters=True" in str(error))
    engine.dispose()


if __name__ == "__main__":
    main()
