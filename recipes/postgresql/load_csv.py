# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
# ///
"""Load a CSV file into a table.

The file goes to the server in blocks, and the server parses it: any size, as fast as
psql's \\copy, without a file on the server. The header says which column is which.
"""

import csv
import os
import sys
from pathlib import Path

import psycopg
from psycopg import sql

# --8<-- [start:load]
BLOCK = 1 << 18  # bytes


def load_csv(conn: psycopg.Connection, table: str, path: Path) -> int:
    """Append a UTF-8 file with a header to table ("name" or "schema.name").

    Returns the number of rows: all or none are loaded. An empty field is NULL, a quoted
    empty one ("") is empty text. Raises psycopg.Error for a column that the table does
    not have and for a bad line; its `diag.context` says which.
    """
    # The server judges the bytes; this only wants the names.
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as text:
        header = next(csv.reader(text), [])
    copy_in = sql.SQL(
        "COPY {} ({}) FROM STDIN (FORMAT csv, HEADER, ENCODING 'UTF8')"
    ).format(
        sql.Identifier(*table.split(".")),
        sql.SQL(", ").join(map(sql.Identifier, header)),
    )
    with path.open("rb") as file, conn.transaction(), conn.cursor() as cur:
        with cur.copy(copy_in) as copy:
            while block := file.read(BLOCK):
                copy.write(block)
        return cur.rowcount


# --8<-- [end:load]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)

GOOD = """\
name,id,price
"Tea, green",1,3.20
"A ""big"" pot",2,19.99
Spoon,3,
"""
BAD = GOOD + "Cup,4,three\n"


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    path = Path("articles.csv")
    with psycopg.connect(url, connect_timeout=5) as conn:
        conn.execute("CREATE TABLE article (id int, name text, price numeric(8, 2))")
        conn.commit()
        path.write_text(GOOD, encoding="utf-8")
        print(load_csv(conn, "article", path), "rows loaded")
        for row in conn.execute("SELECT id, name, price FROM article ORDER BY id"):
            print(*row, sep=" | ")
        path.write_text(BAD, encoding="utf-8")
        try:
            load_csv(conn, "article", path)
        except psycopg.DataError as error:
            print("refused:", error.diag.message_primary)
            print("where:", error.diag.context)
    path.unlink()


if __name__ == "__main__":
    main()
