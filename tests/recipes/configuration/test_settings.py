"""settings: complete at the start, and silent about secrets."""

import logging
import traceback

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from recipes.configuration.settings import Settings, connect, load_settings, main

NAMES = ("POSTGRESQL_URL", "PAYMENT_API_KEY", "STATEMENT_TIMEOUT")
SECRET = "hunter2-hunter2-hunter2"


@pytest.fixture
def environment(monkeypatch):
    """Set these variables, and none of the others."""

    def put(**values: str) -> None:
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    put()
    return put


@pytest.fixture
def complete(environment, postgresql):
    environment(POSTGRESQL_URL=str(postgresql), PAYMENT_API_KEY=SECRET)


def problems(**kwargs) -> list[str]:
    with pytest.raises(ValueError) as raised:
        load_settings(**kwargs)
    shown = "".join(traceback.format_exception(raised.value))
    assert SECRET not in shown
    assert "ValidationError" not in shown
    return str(raised.value).splitlines()


def test_reads_the_environment(complete, postgresql):
    """Every field comes from its variable; what has a default may be left out."""
    settings = load_settings()
    assert settings.postgresql_url.get_secret_value() == postgresql
    assert settings.payment_api_key.get_secret_value() == SECRET
    assert settings.statement_timeout == 30


def test_names_all_that_is_missing(environment):
    """With nothing set, one error names every variable that is missing."""
    assert problems() == [
        "POSTGRESQL_URL: Field required",
        "PAYMENT_API_KEY: Field required",
    ]


def test_empty_is_missing(environment):
    """A variable that is set to nothing counts as missing."""
    environment(POSTGRESQL_URL="", PAYMENT_API_KEY="")
    assert problems() == [f"{name}: Field required" for name in NAMES[:2]]


def test_names_all_that_is_wrong(environment):
    """What is wrong is named with what is missing; no value is shown."""
    environment(PAYMENT_API_KEY=SECRET[:19], STATEMENT_TIMEOUT="0")
    missing, short, timeout = problems()
    assert missing == "POSTGRESQL_URL: Field required"
    assert short.startswith("PAYMENT_API_KEY: ")
    assert timeout.startswith("STATEMENT_TIMEOUT: ")
    assert SECRET[:19] not in short


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://app:{SECRET}@[::1/shop",
        f"host=db.example.com {SECRET} dbname=shop",
        f"mysql://app:{SECRET}@db.example.com/shop",
        f"postgresql://app:{SECRET}@/shop",
        f"postgresql://app:{SECRET}@db.example.com",
        f"host=db.example.com user=app password={SECRET}",
    ],
    ids=["bracket", "no-keyword", "mysql", "no-host", "no-database", "no-dbname"],
)
def test_an_address_that_cannot_be_used(environment, address):
    """An address that cannot be read, or names no host or database, ends the start; the
    password in it is not shown."""
    environment(POSTGRESQL_URL=address, PAYMENT_API_KEY=SECRET)
    [line] = problems()
    assert line.startswith("POSTGRESQL_URL: Value error, ")


def test_variables_of_others(complete, monkeypatch):
    """Variables of other programs are no error."""
    monkeypatch.setenv("POSTGRES_PASSWORD", "x")
    assert load_settings()


def test_secrets_from_files(environment, tmp_path, postgresql):
    """Mounted files, as Docker and Kubernetes give them, are read; a variable of the
    environment wins over them."""
    (tmp_path / "postgresql_url").write_text(f"{postgresql}\n")
    (tmp_path / "payment_api_key").write_text("from-the-file-from-the-file\n")
    settings = load_settings(tmp_path)
    assert settings.postgresql_url.get_secret_value() == postgresql
    assert settings.payment_api_key.get_secret_value() == "from-the-file-from-the-file"
    environment(PAYMENT_API_KEY=SECRET)
    assert load_settings(tmp_path).payment_api_key.get_secret_value() == SECRET


def test_secrets_never_show(environment, caplog, capsys):
    """The secrets are in no print, no log, no JSON, and in no error of a connection
    that fails, with its traceback."""
    url = f"postgresql://app:{SECRET}@127.0.0.1:1/shop"
    environment(POSTGRESQL_URL=url, PAYMENT_API_KEY=SECRET)
    settings = load_settings()
    print(settings, repr(settings), [settings], settings.model_dump())
    logging.getLogger("app").warning("started with %s %r", settings, settings)
    with pytest.raises(psycopg.OperationalError) as raised:
        connect(settings)
    logging.getLogger("app").error("no database", exc_info=raised.value)
    shown = capsys.readouterr().out + caplog.text + settings.model_dump_json()
    shown += "".join(traceback.format_exception(raised.value))
    assert "**********" in shown
    assert SECRET not in shown


def test_errors_of_pydantic_are_silent_too(environment):
    """The error of pydantic itself shows no value either, should somebody log it."""
    environment(
        POSTGRESQL_URL=SECRET, PAYMENT_API_KEY="short", STATEMENT_TIMEOUT=SECRET
    )
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert raised.value.error_count() == 3
    assert SECRET not in str(raised.value)


def test_what_this_page_prints(environment, postgresql, capsys):
    """The program of this page prints its settings, and no secret of the address."""
    address = make_conninfo(postgresql, application_name=SECRET)
    environment(POSTGRESQL_URL=address, PAYMENT_API_KEY="", STATEMENT_TIMEOUT="")
    main()  # it sets the other two, which are removed again afterwards
    printed = capsys.readouterr()
    assert "postgresql_url" in printed.out
    assert SECRET not in printed.out + printed.err


def test_cannot_be_changed(complete):
    """No code changes a setting later."""
    settings = load_settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.statement_timeout = 5


def test_connects(complete, monkeypatch):
    """The connection has the timeout of the settings."""
    monkeypatch.setenv("STATEMENT_TIMEOUT", "7")
    with connect(load_settings()) as conn:
        assert conn.execute("SHOW statement_timeout").fetchone() == ("7s",)


def test_needs_no_environment_to_be_imported(environment):
    """Importing the module reads nothing: tests and tools can import it anywhere."""
    assert set(Settings.model_fields) == {name.lower() for name in NAMES}


# --8<-- [start:wrong]
class SettingsAsOftenCopied(BaseSettings):
    PG_DSN: str | None = None
    API_KEY: str = ""
    model_config = SettingsConfigDict(env_file=".env")


# --8<-- [end:wrong]


def test_often_copied_starts_without_an_address():
    """Often copied: with nothing set, it starts. The first request ends in an
    AttributeError that names no variable."""
    settings = SettingsAsOftenCopied()
    with pytest.raises(AttributeError, match="'NoneType' object has no attribute"):
        psycopg.connect(settings.PG_DSN)


def test_often_copied_shows_the_password(monkeypatch):
    """Often copied: the password is in every print and log of the settings."""
    monkeypatch.setenv("PG_DSN", f"postgresql://app:{SECRET}@db.example.com/shop")
    assert SECRET in repr(SettingsAsOftenCopied())


def test_often_copied_stumbles_over_the_lines_of_others(tmp_path, monkeypatch):
    """Often copied: a line in `.env` that is meant for Compose ends the start, and the
    error shows its value."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(f"POSTGRES_PASSWORD={SECRET}\n")
    with pytest.raises(ValidationError, match="Extra inputs") as raised:
        SettingsAsOftenCopied()
    assert SECRET in str(raised.value)
