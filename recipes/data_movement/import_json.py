# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Import JSON Lines into typed columns, and keep the whole document.

What you query gets a column with a type; the document goes to jsonb as it came. Lines
that do not fit go to a file of their own, with line and reason.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

# --8<-- [start:types]
Types = Mapping[str, Callable[[Any], Any]]  # they raise ValueError


def whole(value: Any) -> int:
    if type(value) is not int or abs(value) >= 2**63:  # bool is an int to isinstance
        raise ValueError(f"{value!r} is no integer of 64 bits")
    return value


def money(value: Any) -> Decimal:
    if type(value) not in (int, Decimal) or abs(value) >= 10**8 or value * 100 % 1:
        raise ValueError(f"{value!r} is no amount of at most 8 digits and 2 decimals")
    return Decimal(value)


def moment(value: Any) -> datetime:
    if type(value) is not str or not (found := datetime.fromisoformat(value)).tzinfo:
        raise ValueError(f"{value!r} is no moment with a time zone")
    return found


# --8<-- [end:types]


# --8<-- [start:import]
def import_json(
    conn: psycopg.Connection, table: str, path: Path, types: Types, rejects: Path
) -> tuple[int, int]:
    """Append the lines that fit to table, in one transaction, the others to rejects.

    Returns how many. The table has a column for each of types, and `document jsonb`.
    Raises psycopg.Error where the server refuses a row; then nothing is loaded.
    """
    columns = sql.SQL(", ").join(map(sql.Identifier, [*types, "document"]))
    target = sql.Identifier(*table.split("."))
    copy_in = sql.SQL("COPY {} ({}) FROM STDIN").format(target, columns)
    how: Any = {"encoding": "utf-8-sig", "errors": "surrogateescape", "newline": "\n"}
    with path.open(**how) as lines, rejects.open("w", encoding="utf-8") as out:
        rejected = 0
        with conn.transaction(), conn.cursor() as cur:
            with cur.copy(copy_in) as copy:
                for number, line in enumerate(map(str.strip, lines), 1):
                    try:
                        if line:  # an empty one is no document
                            copy.write_row(_convert(line, types))
                    except (ValueError, RecursionError) as error:
                        bad = {"line": number, "reason": str(error), "text": line}
                        print(json.dumps(bad), file=out)
                        rejected += 1
            return cur.rowcount, rejected


def _convert(line: str, types: Types) -> list[Any]:
    exact: Any = {"parse_float": _exact, "parse_constant": _exact}  # such as NaN
    document = json.loads(line, object_pairs_hook=_unique, **exact)
    if type(document) is not dict:
        raise ValueError("is no object")
    unstorable = r"[\ud800-\udfff]|(?<!\\)(\\\\)*\\u0000"  # half a character, and 0
    if re.search(unstorable, json.dumps(document, ensure_ascii=False, default=str)):
        raise ValueError("holds a character that is not valid, or is 0")
    row = []
    for name, convert in types.items():
        try:
            value = document.get(name)
            row.append(value if value is None else convert(value))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return [*row, line]


def _exact(number: str) -> Decimal:
    if not (found := Decimal(number)).is_finite() or abs(found.adjusted()) > 1000:
        raise ValueError(f"{number} is no number to store")
    return found


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("has a key twice")
    return found


# --8<-- [end:import]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)

TABLE = "CREATE TABLE event (id int8 NOT NULL, price numeric(10, 2), at timestamptz"
TABLE += ", document jsonb NOT NULL)"
EVENTS = """\
{"id": 1, "price": 0.10, "at": "2026-05-01T12:00:00+02:00", "place": "Bern"}
{"id": 2, "price": "a lot"}
"""


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    path, rejects = Path("events.jsonl"), Path("events.rejected.jsonl")
    path.write_text(EVENTS, encoding="utf-8")
    types = {"id": whole, "price": money, "at": moment}
    with psycopg.connect(url, connect_timeout=5) as conn:
        conn.execute(TABLE)
        print(*import_json(conn, "event", path, types, rejects), sep=" loaded, ")
        print(*conn.execute("SELECT id, price, document -> 'place' FROM event"))
    print(json.loads(rejects.read_text(encoding="utf-8"))["reason"])
    path.unlink()
    rejects.unlink()


if __name__ == "__main__":
    main()
