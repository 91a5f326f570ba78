import io
import logging

import pytest
from sqlalchemy import create_engine, insert, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from recipes.sqlalchemy.hide_secrets_in_logs import (
    Base,
    NoValuesFormatter,
    User,
    describe,
    make_engine,
)

SECRET = "hunter2"


@pytest.fixture
def engine(database):
    """One user, whose token is the secret."""
    engine = make_engine(database)
    Base.metadata.create_all(engine)
    store(engine)
    yield engine
    engine.dispose()


def store(engine):
    with engine.begin() as conn:
        conn.execute(insert(User).values(token=SECRET))


@pytest.fixture
def log():
    """A logger with the formatter of the recipe, and what it wrote."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(NoValuesFormatter())
    logger = logging.Logger("app")
    logger.addHandler(handler)
    return logger, written


def test_statements_without_values(engine, caplog):
    """Logging at INFO shows the statements, and hides their values."""
    with caplog.at_level(logging.INFO, "sqlalchemy.engine"), Session(engine) as session:
        session.scalars(select(User).where(User.token == SECRET)).all()
    assert "SELECT app_user.token" in caplog.text
    assert SECRET not in caplog.text


def test_exception_without_values(engine, log):
    """A logged exception shows its class, its statement and where it was, no value."""
    logger, written = log
    try:
        store(engine)
    except DBAPIError:
        logger.exception("could not store")
    text = written.getvalue()
    assert text.startswith("could not store\n")
    assert "INSERT INTO app_user" in text
    assert "in store" in text
    assert SECRET not in text


@pytest.mark.parametrize("explicit", [True, False])
def test_errors_in_between(engine, log, explicit):
    """An error of your own that was raised from it is shown, with its text; the values
    below it are not."""
    logger, written = log
    try:
        try:
            store(engine)
        except DBAPIError as error:
            if explicit:
                raise ValueError("this one is taken") from error
            raise ValueError("this one is taken")
    except ValueError:
        logger.exception("could not store")
    text = written.getvalue()
    assert "ValueError: this one is taken" in text
    assert "INSERT INTO app_user" in text
    assert SECRET not in text


def test_other_errors(log):
    """An error without a database keeps its text."""
    assert describe(KeyError("price")) == "KeyError: 'price'"


def test_password_of_the_url():
    """The engine and its address show no password."""
    engine = create_engine("postgresql+psycopg://app:hunter2@db.example.com/shop")
    for shown in (repr(engine), str(engine.url), repr(engine.url)):
        assert SECRET not in shown
        assert "db.example.com" in shown


# --8<-- [start:wrong]
def log_as_often_copied(engine, logger):
    try:
        store(engine)
    except DBAPIError as error:
        logger.error("could not store: %s", error)


# --8<-- [end:wrong]


@pytest.mark.parametrize("hide", [False, True])
def test_often_copied_logs_the_value(database, log, hide):
    """Often copied: the value is in the log; with `hide_parameters` alone it still is,
    where the driver quotes it (PostgreSQL, MySQL, MariaDB)."""
    logger, written = log
    engine = create_engine(database, hide_parameters=hide)
    Base.metadata.create_all(engine)
    store(engine)
    log_as_often_copied(engine, logger)
    quoted = engine.dialect.name != "sqlite"
    assert (SECRET in written.getvalue()) == (quoted or not hide)
    engine.dispose()


def test_often_copied_echo(database, capsys):
    """Often copied: `echo=True` prints the values of every statement."""
    engine = create_engine(database, echo=True)
    Base.metadata.create_all(engine)
    store(engine)
    assert SECRET in capsys.readouterr().out
    logging.getLogger("sqlalchemy.engine.Engine").handlers.clear()
    engine.dispose()
