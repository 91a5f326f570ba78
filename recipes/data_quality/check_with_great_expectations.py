# /// script
# requires-python = ">=3.11"
# dependencies = ["great-expectations>=1.10", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Check a table with Great Expectations 1.x.

The database does the counting, and no row is loaded into memory. Use it where people
who do not write SQL read, or write, what the data must be.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")  # read at the import below

import great_expectations as gx
import sqlalchemy as sa
from great_expectations import expectations as gxe
from great_expectations.data_context.types.base import ProgressBarsConfig


# --8<-- [start:check]
class Outcome(NamedTuple):
    """How one expectation ended."""

    rule: str
    status: Literal["pass", "fail", "error"]  # error: it could not be checked
    bad: int  # rows
    examples: list[Any]


def check(url: str, table: str, expectations: Sequence[Any]) -> list[Outcome]:
    """Check the table, in the order of the expectations.

    Raises TestConnectionError if the database or the table is not there.
    """
    context = gx.get_context(mode="ephemeral")  # no files, no state
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    # It takes $NAME for a variable to fill in; %24 is how a URL writes a dollar sign.
    url = url.replace("$", "%24")
    source = context.data_sources.add_sql("db", connection_string=url)
    try:
        asset = source.add_table_asset(table, table_name=table)
        batch = asset.add_batch_definition_whole_table("all").get_batch()
        return [outcome(batch.validate(expectation)) for expectation in expectations]
    finally:
        source.get_engine().dispose()


def outcome(result: Any) -> Outcome:
    config, found = result.expectation_config, result.result
    rule = f"{config.kwargs.get('column', 'table')}: {config.type}"
    could_not = {"observed_value", "unexpected_count"}.isdisjoint(found)
    status: Any = "pass" if result.success else "error" if could_not else "fail"
    bad = int(found.get("unexpected_count") or 0)
    return Outcome(rule, status, bad, found.get("partial_unexpected_list", []))


# --8<-- [end:check]

# --8<-- [start:expect]
ADDRESS = "^[^@ ]+@[^@ ]+[.][^@ .]+$"  # each database has a syntax of its own
CUSTOMER = [
    gxe.ExpectTableRowCountToBeBetween(min_value=1),  # an empty table passes the rest
    gxe.ExpectColumnValuesToBeUnique(column="id"),
    gxe.ExpectColumnValuesToNotBeNull(column="email"),  # the next one skips NULL
    gxe.ExpectColumnValuesToMatchRegex(column="email", regex=ADDRESS),
    gxe.ExpectColumnValuesToBeBetween(column="age", min_value=0, max_value=150),
]
# --8<-- [end:expect]

NO_SERVER = (
    "Set DATABASE_URL, for example"
    " postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"
)


def main() -> None:
    url = os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER)
    engine = sa.create_engine(url)
    with engine.begin() as conn:
        table = "CREATE TABLE customer (id int, email varchar(100), age int)"
        conn.execute(sa.text(table))
        rows = "(1, 'ann@example.com', 30), (2, 'bob@x', 200), (3, NULL, 40)"
        conn.execute(sa.text(f"INSERT INTO customer VALUES {rows}"))
    engine.dispose()
    for rule, status, bad, examples in check(url, "customer", CUSTOMER):
        print(f"{status}  {rule}, bad: {bad} {examples}")


if __name__ == "__main__":
    main()
