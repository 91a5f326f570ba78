# /// script
# requires-python = ">=3.11"
# dependencies = ["oracledb>=3.4"]
# ///
"""Store and read large text and binary data.

As str and bytes where it fits into memory: one round trip. In chunks where it does not:
a file of any size goes in and comes out through a small buffer.
"""

import io
import os
import sys
from typing import BinaryIO

import oracledb

SCHEMA = """
CREATE TABLE document (
    name VARCHAR2(100) PRIMARY KEY,
    text CLOB,
    body BLOB
)
"""
NO_SERVER = (
    "Set ORACLE_DSN, for example cook/cook@127.0.0.1:11521/FREEPDB1"
    " after `docker compose up -d --wait oracle`"
)


# --8<-- [start:whole]
def save(conn: oracledb.Connection, name: str, text: str, body: bytes) -> None:
    """Store a document whole, each part up to 1 GB. Does not commit.

    Raises IntegrityError if there is one of that name.
    """
    with conn.cursor() as cursor:
        query = "INSERT INTO document (name, text, body) VALUES (:1, :2, :3)"
        cursor.execute(query, [name, text, body])


def load(conn: oracledb.Connection, name: str) -> tuple[str | None, bytes | None]:
    """Return text and body of a document. Raises KeyError if there is none."""
    with conn.cursor() as cursor:
        query = "SELECT text, body FROM document WHERE name = :1"
        cursor.execute(query, [name], fetch_lobs=False)  # str and bytes, no locators
        row = cursor.fetchone()
    if row is None:
        raise KeyError(name)
    text, body = row
    return text, body


# --8<-- [end:whole]


# --8<-- [start:chunks]
def save_stream(conn: oracledb.Connection, name: str, source: BinaryIO) -> int:
    """Store what source gives, piece by piece; return how many bytes. No commit."""
    with conn.cursor() as cursor:
        place = cursor.var(oracledb.DB_TYPE_BLOB)
        cursor.execute(
            "INSERT INTO document (name, body) VALUES (:name, EMPTY_BLOB())"
            " RETURNING body INTO :place",
            name=name,
            place=place,
        )
        (lob,) = place.getvalue()
        piece = lob.getchunksize() * 128  # about 1 MB, in whole blocks of the server
        size = 0
        while data := source.read(piece):
            lob.write(data, size + 1)  # the first byte is number 1
            size += len(data)
    return size


def load_stream(conn: oracledb.Connection, name: str, target: BinaryIO) -> int:
    """Write the body of a document to target, piece by piece; return how many bytes.

    Raises KeyError if there is no such document, or no body in it.
    """
    with conn.cursor() as cursor:
        query = "SELECT body FROM document WHERE name = :1"
        cursor.execute(query, [name], fetch_lobs=True)
        row = cursor.fetchone()
        if row is None or row[0] is None:
            raise KeyError(name)
        (lob,) = row
        piece, total, size = lob.getchunksize() * 128, lob.size(), 0
        while size < total:
            data = lob.read(size + 1, piece)
            target.write(data)
            size += len(data)
    return size


# --8<-- [end:chunks]


def main() -> None:
    dsn = os.environ.get("ORACLE_DSN") or sys.exit(NO_SERVER)
    with oracledb.connect(dsn, tcp_connect_timeout=5) as conn, conn.cursor() as cursor:
        conn.call_timeout = 60_000  # milliseconds
        cursor.execute(SCHEMA)
        save(conn, "letter", "Füße " * 20_000, b"\x00\xff" * 20_000)
        text, body = load(conn, "letter")
        print("letter:", len(text or ""), "characters,", len(body or b""), "bytes")
        film = bytes(range(256)) * 10_000
        print("film, bytes in:", save_stream(conn, "film", io.BytesIO(film)))
        conn.commit()
        copy = io.BytesIO()
        print("film, bytes out:", load_stream(conn, "film", copy))
        print("the same:", copy.getvalue() == film)


if __name__ == "__main__":
    main()
