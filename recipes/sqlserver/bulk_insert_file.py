# /// script
# requires-python = ">=3.11"
# dependencies = ["mssql-python>=1.16"]
# ///
"""Load a CSV file.

A file on your side goes through bulk copy, as the tool bcp does it. BULK INSERT is for
a file that the server itself can open: its path is a path over there.
"""

import csv
import os
import re
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import mssql_python
from mssql_python import Connection

SCHEMA = """
CREATE TABLE sale (
    id      int PRIMARY KEY,
    product nvarchar(100) NOT NULL,
    amount  decimal(12, 2) NOT NULL CHECK (amount >= 0)
);
"""


# --8<-- [start:client]
NUMBER = re.compile(r"[0-9]{1,9}")
AMOUNT = re.compile(r"[0-9]{1,10}(\.[0-9]{1,2})?")


def read(path: Path) -> Iterator[tuple[int, str, Decimal]]:
    """The rows of the CSV file. Raises ValueError, which names the line."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, strict=True)
        if next(lines, None) != ["id", "product", "amount"]:
            raise ValueError(f"{path.name}: the first line is not id,product,amount")
        for line in lines:
            number, product, amount = line if len(line) == 3 else ("", "", "")
            if not (NUMBER.fullmatch(number) and AMOUNT.fullmatch(amount)):
                raise ValueError(f"{path.name}, line {lines.line_num}: {line}")
            yield int(number), product, Decimal(amount)


def load_from_here(conn: Connection, path: Path, timeout: int = 600) -> int:
    """Bulk copy the file into the table, and return the number of rows.

    A file with a bad line loads nothing. Raises ValueError for it, and RuntimeError for
    what the server refuses: then rows of earlier batches may be in the table.
    """
    for _ in read(path):  # all of it once, before the first row is sent
        pass
    with conn.cursor() as cursor:
        result = cursor.bulkcopy(
            "sale",
            read(path),
            batch_size=10_000,
            timeout=timeout,
            check_constraints=True,  # bulk loading skips them, unless told not to
        )
    return int(result["rows_copied"])


# --8<-- [end:client]


# --8<-- [start:server]
LINE = """
CREATE TABLE #line (
    id      int NOT NULL,
    product varchar(400) COLLATE Latin1_General_100_BIN2_UTF8 NOT NULL,
    amount  decimal(12, 2) NOT NULL
)
"""


def load_from_there(conn: Connection, path: str) -> int:
    """Let the server read a UTF-8 file of its own, and return the number of rows.

    path is absolute, on the server's machine. All rows or none: the caller commits.
    Raises mssql_python.Error for a file that it cannot open, and for a bad line.
    """
    quoted = path.replace("'", "''")  # BULK INSERT takes no parameters
    conn.execute(LINE)
    conn.execute(f"""
        BULK INSERT #line FROM N'{quoted}' WITH (
            FORMAT = 'CSV', FIRSTROW = 2, ROWTERMINATOR = '0x0a',
            CODEPAGE = 'RAW', -- the bytes are UTF-8, and so is the column
            MAXERRORS = 0     -- the default leaves out up to ten bad lines
        )
    """)
    loaded = conn.execute("INSERT INTO sale SELECT id, product, amount FROM #line")
    conn.execute("DROP TABLE #line")
    return int(loaded.rowcount)


# --8<-- [end:server]

NO_SERVER = (
    "Set SQLSERVER_DSN, for example Server=127.0.0.1,11433;Database=master;UID=sa;"
    "PWD=Cook_Book1;Encrypt=yes;TrustServerCertificate=yes"
    " after `docker compose up -d --wait sqlserver`"
)


def main() -> None:
    dsn = os.environ.get("SQLSERVER_DSN") or sys.exit(NO_SERVER)
    path = Path("sale.csv").absolute()
    text = 'id,product,amount\n1,"bolt, 8 mm",0.10\n2,größer,12.50\n'
    path.write_text(text, encoding="utf-8")
    with mssql_python.connect(dsn, timeout=5) as conn:
        conn.timeout = 60
        conn.execute(SCHEMA)
        conn.commit()
        print("bulk copy loaded", load_from_here(conn, path))
        for row in conn.execute(
            "SELECT product, amount FROM sale ORDER BY id"
        ).fetchall():
            print(*row)
        try:
            load_from_there(conn, f"{path}.not-there")
        except mssql_python.Error:
            print("BULK INSERT: the server has no such file")


if __name__ == "__main__":
    main()
