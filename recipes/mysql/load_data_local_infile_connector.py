# /// script
# requires-python = ">=3.11"
# dependencies = ["mysql-connector-python>=9.4"]
# ///
"""Load a CSV file with LOAD DATA LOCAL and mysql-connector-python.

The fastest way into MySQL and MariaDB from another machine. What the server would skip
or cut with a mere warning is an error here, and then nothing is stored.
"""

import csv
import os
import sys
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mysql.connector import Error, MySQLConnection
from mysql.connector.abstracts import MySQLConnectionAbstract, MySQLCursorAbstract


# --8<-- [start:connect]
def connect(url: str, directory: Path) -> MySQLConnectionAbstract:
    """Open mysql://user:password@host:port/database for loading; the caller closes it.

    Only files of that directory may be sent: one without links or secrets.
    """
    parts = urlsplit(url)
    return MySQLConnection(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=unquote(parts.path[1:]),
        connection_timeout=5,
        read_timeout=600,  # the answer comes when all is loaded
        allow_local_infile_in_path=str(directory),
    )


# --8<-- [end:connect]


# --8<-- [start:load]
def load(conn: MySQLConnectionAbstract, sql: str, path: str) -> int:
    """Run a LOAD DATA statement for the file at path and commit; return its row count.

    Raises ValueError for the first row that does not fit, or was there: then nothing
    is stored, and what else was pending on conn is rolled back too.
    """
    try:
        with conn.cursor() as cursor:
            cursor.execute(sql, (path,))
            rows = cursor.rowcount
            refuse_warnings(cursor)
        conn.commit()
    except BaseException as error:
        if isinstance(error, Error) and error.errno == -1:
            conn.shutdown()  # no file was sent, and the server waits for it
        elif conn.is_connected():
            conn.rollback()
        raise
    return rows


def refuse_warnings(cursor: MySQLCursorAbstract) -> None:
    """Raise ValueError with the first warning, which LOCAL made of an error."""
    if count := cursor.warning_count:
        cursor.execute("SHOW WARNINGS LIMIT 1")
        raise ValueError(f"{count} warnings, the first: {cursor.fetchall()}")


def load_csv(conn: MySQLConnectionAbstract, table: str, path: Path) -> int:
    """Load a UTF-8 CSV file, whose header names the columns; return the row count.

    An unquoted NULL is NULL. Raises as load does.
    """
    with path.open("rb") as file:
        header = file.readline()
    end = r"\r\n" if header.endswith(b"\r\n") else r"\n"
    columns = next(csv.reader([header.decode("utf-8-sig")]))
    sql = f"""
        LOAD DATA LOCAL INFILE %s INTO TABLE {quote(table)} CHARACTER SET utf8mb4
        FIELDS TERMINATED BY ',' OPTIONALLY ENCLOSED BY '"' ESCAPED BY ''
        LINES TERMINATED BY '{end}' IGNORE 1 LINES
        ({", ".join(map(quote, columns))})"""
    return load(conn, sql, str(path))


def quote(name: str) -> str:
    """Return the name of a table or column, quoted for SQL that has parameters."""
    return f"`{name.replace('`', '``')}`"


# --8<-- [end:load]

NO_SERVER = (
    "Set MYSQL_URL, for example mysql://cook:cook@127.0.0.1:13306/cookbook"
    " after `docker compose up -d --wait mysql`"
)


def main() -> None:
    url = os.environ.get("MYSQL_URL") or sys.exit(NO_SERVER)
    here = Path.cwd()
    with connect(url, here) as conn, conn.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE city (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL)"
        )
        path = here / "city.csv"
        path.write_text('id,name\n1,"Bath, Somerset"\n2,Łódź\n', encoding="utf-8")
        print("loaded:", load_csv(conn, "city", path))
        path.write_text("id,name\n3,Oslo\nfour,Rome\n", encoding="utf-8")
        try:
            load_csv(conn, "city", path)
        except ValueError as error:
            print("refused:", "Incorrect integer value: 'four'" in str(error))
        cursor.execute("SELECT COUNT(*) FROM city")
        print("in the table:", *cursor.fetchall()[0])
        path.unlink()


if __name__ == "__main__":
    main()
