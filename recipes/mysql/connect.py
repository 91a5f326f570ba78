# /// script
# requires-python = ">=3.11"
# dependencies = ["pymysql[rsa]>=1.2"]
# ///
"""Connect to MySQL or MariaDB.

From a URL whose password may hold any character, in utf8mb4 so that every character
arrives, and with a limit on every wait. Use it wherever a program opens a connection.
"""

import os
import sys
from urllib.parse import unquote, urlsplit

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor


# --8<-- [start:connect]
def connect(
    url: str, connect_timeout: float = 5, read_timeout: float = 30
) -> "Connection[Cursor]":
    """Open mysql://user:password@host:port/database; the caller closes it.

    Timeouts are in seconds; read_timeout limits the wait for each answer. Raises
    OperationalError: no server there, user refused, or no answer in time.
    """
    parts = urlsplit(url)
    return pymysql.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or "").encode(),  # a str would go as latin-1
        database=unquote(parts.path[1:]) or None,
        charset="utf8mb4",
        connect_timeout=connect_timeout,
        read_timeout=read_timeout,
        write_timeout=read_timeout,
    )


# --8<-- [end:connect]

NO_SERVER = (
    "Set MYSQL_URL, for example mysql://cook:cook@127.0.0.1:13306/cookbook"
    " after `docker compose up -d --wait mysql`"
)


def main() -> None:
    url = os.environ.get("MYSQL_URL") or sys.exit(NO_SERVER)
    smile = "\N{SLIGHTLY SMILING FACE}"
    with connect(url) as conn, conn.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE note (id INT PRIMARY KEY, text VARCHAR(100) NOT NULL)"
            " CHARACTER SET utf8mb4"
        )
        cursor.execute("INSERT INTO note VALUES (%s, %s)", (1, smile))
        conn.commit()  # or the row is gone when the connection closes
        cursor.execute("SELECT text, CHAR_LENGTH(text), LENGTH(text) FROM note")
        for text, characters, octets in cursor:
            print("an emoji:", characters, "character,", octets, "bytes")
            print("it came back unchanged:", text == smile)


if __name__ == "__main__":
    main()
