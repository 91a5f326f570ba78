"""What a configuration may say: limits, and words that must mean something."""

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)  # a typo is an error


# --8<-- [start:limit]
class Limit(Model):
    """So much is allowed: a number, or a share of the rows ("2%")."""

    amount: Decimal = Field(ge=0)
    percent: bool = False

    @model_validator(mode="before")
    @classmethod
    def _parse(cls, given: Any) -> Any:
        if isinstance(given, dict):
            return given
        found = re.fullmatch(r"\s*([\d.]+)\s*(%?)\s*", str(given))
        if not found:
            raise ValueError(f"{given!r} is neither a number nor a share such as '2%'")
        return {"amount": found[1], "percent": bool(found[2])}

    def allows(self, value: Decimal, rows: int) -> bool:
        return value <= (self.amount * rows / 100 if self.percent else self.amount)


# --8<-- [end:limit]


def _is_number(limit: Limit | None) -> Limit | None:
    if limit and limit.percent:
        raise ValueError("a number is meant here, not a share")
    return limit


def is_zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"there is no time zone {name!r}") from None
    return name


def is_regex(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    return pattern


PlainLimit = Annotated[Limit | None, AfterValidator(_is_number)]
Names = Annotated[list[str], Field(min_length=1)]
Number = Annotated[Decimal, Field(ge=0)]
Bound = int | Decimal | datetime | date
