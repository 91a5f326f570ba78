"""What is to be checked, and what happens then: a TOML file, validated."""

import os
import tomllib
from pathlib import Path
from typing import Literal

from pydantic import EmailStr, Field, SecretStr, ValidationError, field_validator

from .limits import Model
from .specs import AnyCheck
from .status import Status


class ConfigError(Exception):
    """The configuration cannot be used; the message says why."""


# --8<-- [start:config]
class Database(Model):
    url_env: str = "DATABASE_URL"  # holds the address, which holds a password
    timeout: int = Field(default=60, gt=0, le=86400)  # seconds, for one statement


class History(Model):
    url_env: str | None = None  # without: the database that is checked
    keep_days: int = Field(default=90, gt=0)


class Report(Model):
    file: Path = Path("report.html")


class Alert(Model):
    """An e-mail. There is no way to turn off TLS, or the check of the certificate."""

    host: str
    port: int = Field(default=587, gt=0, lt=65536)
    security: Literal["starttls", "tls"] = "starttls"
    ca_file: Path | None = None  # of a private certificate authority
    user_env: str = "SMTP_USER"
    password_env: str = "SMTP_PASSWORD"  # noqa: S105 - its name, not the password
    sender: EmailStr
    recipients: list[EmailStr] = Field(min_length=1)
    on: frozenset[Status] = frozenset({Status.FAIL, Status.ERROR})
    timeout: int = Field(default=30, gt=0)


class Config(Model):
    name: str = Field(min_length=1, max_length=100)
    database: Database = Database()
    history: History = History()
    report: Report = Report()
    alert: Alert | None = None
    checks: list[AnyCheck] = Field(min_length=1)

    @field_validator("checks")
    @classmethod
    def _names_differ(cls, checks: list[AnyCheck]) -> list[AnyCheck]:
        names = [check.name for check in checks]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"the history knows a check by its name; twice: {twice}")
        return checks


# --8<-- [end:config]


def load(path: Path) -> Config:
    """Raises ConfigError, which names every mistake and where it is."""
    try:
        given = tomllib.loads(path.read_text("utf-8"))
        return Config.model_validate(given)
    except ValidationError as error:
        lines = [
            f"  {'.'.join(map(str, it['loc']))}: {it['msg']}"
            for it in error.errors(include_url=False, include_input=False)
        ]
        raise ConfigError("\n".join([f"{path}:", *lines])) from None
    except (OSError, ValueError) as error:  # not there, not UTF-8, not TOML
        raise ConfigError(f"{path}: {error}") from None


def secret(variable: str) -> SecretStr:
    """What a variable holds; it never shows in a log. Raises ConfigError."""
    if not (value := os.environ.get(variable)):
        raise ConfigError(f"the variable {variable} is not set")
    return SecretStr(value)
