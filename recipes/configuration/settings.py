# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "pydantic>=2.10", "pydantic-settings>=2.12"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Read settings once, and fail at the start.

A program that lacks a password should say so before it takes its first request, and
name everything that is missing. No secret may show in logs or errors.
"""

import os
import sys
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


# --8<-- [start:settings]
class Settings(BaseSettings):
    """Each field is read from the environment variable of its name, in capitals."""

    model_config = SettingsConfigDict(
        env_ignore_empty=True,  # POSTGRESQL_URL= is missing, not empty
        frozen=True,
        hide_input_in_errors=True,
    )

    postgresql_url: SecretStr  # required: no default, and never `| None`
    payment_api_key: SecretStr = Field(min_length=20)
    statement_timeout: int = Field(30, ge=1, le=3600)  # seconds

    @field_validator("postgresql_url")
    @classmethod
    def can_be_read(cls, url: SecretStr) -> SecretStr:
        try:
            parts = conninfo_to_dict(url.get_secret_value())
        except psycopg.ProgrammingError:  # its text repeats the address
            raise ValueError("not an address of PostgreSQL") from None
        if not parts.get("host") or not parts.get("dbname"):
            raise ValueError("without host or database")  # libpq would guess
        return url


def load_settings(secrets_dir: Path | None = None) -> Settings:
    """The settings, from the environment, else from files in secrets_dir (Docker, k8s).

    Raises ValueError with a line for each one that is missing or wrong; no values.
    """
    try:
        return Settings(_secrets_dir=secrets_dir)  # type: ignore[call-arg]
    except ValidationError as error:
        lines = [f"{str(it['loc'][0]).upper()}: {it['msg']}" for it in error.errors()]
        raise ValueError("\n".join(lines)) from None  # it holds what was given


# --8<-- [end:settings]


# --8<-- [start:connect]
def connect(settings: Settings) -> psycopg.Connection:
    """Open a connection: the one place where the secret is read."""
    return psycopg.connect(
        settings.postgresql_url.get_secret_value(),
        connect_timeout=5,
        options=f"-c statement_timeout={settings.statement_timeout}s",
    )


# --8<-- [end:connect]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    os.environ["STATEMENT_TIMEOUT"] = "half a minute"
    try:
        load_settings()
    except ValueError as error:
        print(error)  # and sys.exit(1), in your program
    os.environ["STATEMENT_TIMEOUT"] = "30"
    os.environ["PAYMENT_API_KEY"] = "a-key-of-the-payment-service"
    settings = load_settings()
    print(settings)
    with connect(settings) as conn:
        print("timeout:", *conn.execute("SHOW statement_timeout").fetchall()[0])


if __name__ == "__main__":
    main()
