# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Clean phone numbers, amounts and dates that people typed.

Each is converted by a rule that you wrote, or reported with the reason: no guesses.
"""

import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import sqlalchemy as sa


# --8<-- [start:rules]
def phone(text: str, country: str) -> str:
    """E.164, such as +41441234567. A number without a country gets `country`."""
    digits = re.sub("^00", "+", re.sub("[ ()./-]", "", text))
    digits = digits if digits[:1] == "+" else country + digits.removeprefix("0")
    if "(0)" in text or not re.fullmatch(r"\+[1-9][0-9]{6,14}", digits):
        raise ValueError(f"{text!r} is no phone number")
    return digits


def amount(text: str) -> Decimal:
    """1,234.50 or 1.5K or 2M: a point before decimals, commas between thousands."""
    shape = r"(-?(?:[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+)(?:\.[0-9]+)?) ?([KM]?)"
    if not (found := re.fullmatch(shape, text.strip().upper())):
        raise ValueError(f"{text!r} is no amount such as 1,234.50 or 1.5K")
    factor = {"": 1, "K": 1_000, "M": 1_000_000}[found[2]]
    value = Decimal(found[1].replace(",", "")) * factor
    if value * 100 % 1 or abs(value) >= 10**10:
        raise ValueError(f"{text!r} has parts of a cent, or more than 10 digits")
    return value.quantize(Decimal("0.01"))


def day(text: str, *formats: str) -> date:
    """In the one of the formats that fits. If two fit and disagree, it is refused."""
    found = set()
    for shape in formats:
        with suppress(ValueError):
            found.add(datetime.strptime(text.strip(), shape).date())  # noqa: DTZ007
    if len(found) != 1:
        which = " or ".join(map(str, sorted(found))) or "no date"
        raise ValueError(f"{text!r} is {which}")
    return found.pop()


# --8<-- [end:rules]


# --8<-- [start:clean]
Rules = Mapping[str, Callable[[str], Any]]  # they raise ValueError


def clean_table(
    conn: sa.Connection, raw: sa.Table, clean: sa.Table, problem: sa.Table, rules: Rules
) -> tuple[int, int]:
    """Fill clean with the rows of raw that are right, problem with what is wrong.

    raw (`id`, a text column for each rule) stays as it is; the others are made anew, in
    the transaction of conn. Empty is NULL. Returns the numbers of right and wrong.
    """
    conn.execute(sa.delete(clean))
    conn.execute(sa.delete(problem))
    counts = [0, 0]
    query = following = sa.select(raw).order_by(raw.c.id).limit(1000)
    while batch := conn.execute(query).mappings().all():
        good, bad = list[dict[str, Any]](), list[dict[str, Any]]()
        for row in batch:
            values, before = {"id": row["id"]}, len(bad)
            for name, rule in rules.items():
                text = row[name]
                try:
                    values[name] = rule(text) if text and text.strip() else None
                except ValueError as error:
                    found = {"field": name, "value": text, "reason": str(error)}
                    bad.append({"id": row["id"], **found})
            good += [values] if len(bad) == before else []
            counts[len(bad) > before] += 1
        for table, rows in ((clean, good), (problem, bad)):
            if rows:
                conn.execute(sa.insert(table), rows)
        query = following.where(raw.c.id > batch[-1]["id"])
    return counts[0], counts[1]


# --8<-- [end:clean]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def _table(name: str, **kinds: Any) -> sa.Table:
    columns = map(sa.Column, kinds.keys(), kinds.values())
    return sa.Table(name, sa.MetaData(), sa.Column("id", sa.Integer), *columns)


RAW = _table("raw", phone=sa.Text, budget=sa.Text, since=sa.Text)
CLEAN = _table("clean", phone=sa.Text, budget=sa.Numeric(12, 2), since=sa.Date)
PROBLEM = _table("problem", field=sa.Text, value=sa.Text, reason=sa.Text)
RULES: Rules = {
    "phone": lambda text: phone(text, "+41"),
    "budget": amount,
    "since": lambda text: day(text, "%Y-%m-%d", "%d.%m.%Y"),
}


def main() -> None:
    url = sa.make_url(os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER))
    address = url.set(drivername="postgresql+psycopg")
    engine = sa.create_engine(address, connect_args={"connect_timeout": 5})
    typed = [
        {"id": 1, "phone": "044 123 45 67", "budget": "1.5K", "since": "31.12.2019"},
        {"id": 2, "phone": "call Ann", "budget": "1.234,50", "since": ""},
    ]
    with engine.begin() as conn:
        for table in (RAW, CLEAN, PROBLEM):
            table.create(conn)
        conn.execute(sa.insert(RAW), typed)
        print(*clean_table(conn, RAW, CLEAN, PROBLEM, RULES), sep=" right, ")
        for table in (CLEAN, PROBLEM):
            print(*conn.execute(sa.select(table)), sep="\n")
    engine.dispose()


if __name__ == "__main__":
    main()
