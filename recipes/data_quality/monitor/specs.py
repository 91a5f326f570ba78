"""The kinds of checks, and what each must be told."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from .limits import Bound, Limit, Model, Names, Number, PlainLimit, is_regex, is_zone


class Check(Model):
    name: str = Field(min_length=1, max_length=200)
    warn_above: Limit | None = None
    fail_above: Limit | None = Limit(amount=Decimal(0))


class TableCheck(Check):
    table: str
    in_schema: str | None = Field(default=None, alias="schema")
    min_rows: int = Field(default=1, ge=0)  # an empty table would pass every check


class Completeness(TableCheck):
    kind: Literal["completeness"]
    column: str
    blank_is_missing: bool = True  # of texts: "" and "  "


class Format(TableCheck):
    kind: Literal["format"]
    column: str
    pattern: Annotated[str, AfterValidator(is_regex)]  # of the whole value


class Values(TableCheck):
    kind: Literal["values"]
    column: str
    allowed: list[int | Decimal | str] | None = Field(default=None, min_length=1)
    minimum: Bound | None = None
    maximum: Bound | None = None

    @model_validator(mode="after")
    def _says_something(self) -> "Values":
        if all(it is None for it in (self.allowed, self.minimum, self.maximum)):
            raise ValueError("give allowed, minimum or maximum")
        return self


class References(TableCheck):
    kind: Literal["references"]
    columns: Names | None = None  # without: every foreign key that is declared
    parent: str | None = None
    parent_schema: str | None = None
    parent_columns: Names | None = None  # without: the parent's primary key

    @model_validator(mode="after")
    def _both_or_none(self) -> "References":
        if (self.columns is None) != (self.parent is None):
            raise ValueError("columns and parent go together")
        return self


class Revenue(TableCheck):
    kind: Literal["revenue"]
    key: str
    total: str
    lines: str
    lines_schema: str | None = None
    lines_key: str
    quantity: str
    unit_price: str
    tolerance: Number = Decimal("0.005")  # less than a cent: what binary fractions lose


class Duplicates(TableCheck):
    kind: Literal["duplicates"]
    key: Names | None = None  # without: whole rows, the primary key left out
    ignore: tuple[str, ...] = ()


class Distribution(TableCheck):
    kind: Literal["distribution"]
    column: str


class Freshness(TableCheck):
    kind: Literal["freshness"]
    column: str
    warn_above: PlainLimit = None
    fail_above: PlainLimit = Limit(amount=Decimal(24))  # hours
    time_zone: Annotated[str, AfterValidator(is_zone)] = "UTC"  # if the column has none
    ahead: Number = Decimal(5)  # minutes that clocks may differ


class CustomSQL(Check):
    kind: Literal["sql"]
    warn_above: PlainLimit = None
    fail_above: PlainLimit = Limit(amount=Decimal(0))
    query: str  # answers one number, which the limits speak of


AnyCheck = Annotated[
    Completeness
    | Format
    | Values
    | References
    | Revenue
    | Duplicates
    | Distribution
    | Freshness
    | CustomSQL,
    Field(discriminator="kind"),
]
