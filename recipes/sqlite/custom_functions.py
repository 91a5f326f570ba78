# /// script
# requires-python = ">=3.11"
# dependencies = []
# ///
"""Add functions written in Python to SQL.

REGEXP, a sum of money that is exact, also as a window function, and an order of words
beyond ASCII. Use it for what SQL lacks, on rows that are filtered already.
"""

import os
import re
import sqlite3
import sys
from contextlib import closing
from decimal import Decimal


# --8<-- [start:functions]
def regexp(pattern: str, text: str | None) -> bool | None:
    """Tell whether the pattern is found in text. SQL: text REGEXP pattern."""
    return None if text is None else re.search(pattern, text) is not None


def compare(left: str, right: str) -> int:
    """Order words without regard to case, in every alphabet."""
    one, other = left.casefold(), right.casefold()
    return (one > other) - (one < other)


class DecimalSum:
    """Sum amounts that are stored as text; NULLs are left out, as sum() does."""

    def __init__(self) -> None:
        self.total, self.count = Decimal(0), 0

    def step(self, amount: str | None) -> None:  # a row comes in
        if amount is not None:
            self.total, self.count = self.total + Decimal(amount), self.count + 1

    def inverse(self, amount: str | None) -> None:  # a row leaves the window
        if amount is not None:
            self.total, self.count = self.total - Decimal(amount), self.count - 1

    def value(self) -> str | None:
        return str(self.total) if self.count else None

    finalize = value


def connect(path: str) -> sqlite3.Connection:
    """Open the file; the functions are there in this connection only."""
    conn = sqlite3.connect(path, timeout=5)
    conn.create_function("regexp", 2, regexp, deterministic=True)
    conn.create_window_function("decimal_sum", 1, DecimalSum)
    conn.create_collation("casefold", compare)
    return conn


# --8<-- [end:functions]


# --8<-- [start:use]
PHONE = r"^\+?[0-9 ()-]{7,20}$"


def wrong_phones(conn: sqlite3.Connection) -> list[str]:
    """Return the names of people whose phone is none."""
    rows = conn.execute(
        "SELECT name FROM person WHERE phone NOT REGEXP ?"
        " ORDER BY name COLLATE casefold",
        (PHONE,),
    )
    return [name for (name,) in rows]


def running_total(conn: sqlite3.Connection) -> list[tuple[str, Decimal]]:
    """Return each name with the exact sum of the amounts up to it."""
    rows = conn.execute(
        "SELECT name, decimal_sum(paid) OVER (ORDER BY id) FROM person ORDER BY id"
    )
    return [(name, Decimal(total)) for name, total in rows if total is not None]


# --8<-- [end:use]

PEOPLE = [
    ("Zoë", "+49 30 901820", "0.10"),
    ("ärger", "not a phone!!", "0.20"),
    ("Anna", "12", "9007199254740993.00"),
]

NO_SERVER = "Set SQLITE_PATH to a file to create, for example cookbook.db"


def main() -> None:
    path = os.environ.get("SQLITE_PATH") or sys.exit(NO_SERVER)
    with closing(connect(path)) as conn, conn:
        conn.execute("CREATE TABLE person (id INTEGER PRIMARY KEY, name, phone, paid)")
        conn.executemany(
            "INSERT INTO person (name, phone, paid) VALUES (?, ?, ?)", PEOPLE
        )
        print("wrong phones:", wrong_phones(conn))
        for name, total in running_total(conn):
            print(f"up to {name}: {total}")
        (total,) = conn.execute("SELECT sum(paid) FROM person").fetchone()
        print(f"sum() would say: {total:.2f}")


if __name__ == "__main__":
    main()
