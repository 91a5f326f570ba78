# /// script
# requires-python = ">=3.11"
# dependencies = ["ibm-db>=3.3"]
# ///
"""Connect to IBM Db2 over TLS, and never wait for ever.

The driver takes one string of KEYWORD=value pairs, knows no quoting in it, ignores what
it does not know, and waits without end unless told otherwise. Use this to open any
connection.
"""

import os
import sys
from contextlib import closing
from pathlib import Path

import ibm_db_dbi

NO_SERVER = (
    "Set DB2_DSN, for example DATABASE=COOKBOOK;HOSTNAME=127.0.0.1;PORT=15000;"
    "PROTOCOL=TCPIP;UID=db2inst1;PWD=cook;"
    " after `docker compose up -d --wait db2`"
)


# --8<-- [start:string]
def connection_string(**keywords: str | int) -> str:
    """Return KEYWORD=value; for each: DATABASE, HOSTNAME, PORT, UID, PWD and others.

    Raises ValueError for a value that the driver would cut or change: it is empty, has
    a semicolon or a control character, or begins or ends with a blank.
    """
    for keyword, value in keywords.items():
        text = str(value)
        if not text or text != text.strip() or ";" in text or not text.isprintable():
            # Not the value: it may be the password.
            raise ValueError(f"no connection string can carry this {keyword}")
    return "".join(f"{keyword}={value};" for keyword, value in keywords.items())


# --8<-- [end:string]


# --8<-- [start:connect]
def connect(
    dsn: str, *, connect_timeout: int = 5, answer_timeout: int = 60, lock_wait: int = 10
) -> "ibm_db_dbi.Connection":
    """Open a connection without autocommit; the caller closes it.

    In seconds: the wait for the server, for the answer to a statement, for a lock.
    Raises OperationalError: nobody there (SQL30081N), or user refused (SQL30082N).
    """
    if min(connect_timeout, answer_timeout, lock_wait) < 1:
        raise ValueError("0 would wait for ever, or not at all for a lock")
    limits = connection_string(
        CONNECTTIMEOUT=connect_timeout, RECEIVETIMEOUT=answer_timeout
    )
    # In front: of a keyword that comes twice the driver takes the first.
    conn = ibm_db_dbi.connect(limits + dsn, "", "")
    with closing(conn.cursor()) as cursor:
        cursor.execute(f"SET CURRENT LOCK TIMEOUT {lock_wait:d}")
    return conn


# --8<-- [end:connect]


# --8<-- [start:verified]
def connect_verified(dsn: str, ca_file: Path) -> "ibm_db_dbi.Connection":
    """Connect to a server that proves the name in HOSTNAME by a certificate of ca_file.

    Raises OperationalError before the password is sent: SQL30081N with code 414 for
    another signer or no TLS, SQL20576N for another name; DatabaseError (CLI0157E)
    where ca_file cannot be read.
    """
    tls = connection_string(
        SECURITY="SSL",  # any other word means: no TLS
        SSLSERVERCERTIFICATE=str(ca_file.absolute()),
        SSLCLIENTHOSTNAMEVALIDATION="BASIC",  # off by default before version 12.1
    )
    return connect(tls + dsn)


# --8<-- [end:verified]


def main() -> None:
    dsn = os.environ.get("DB2_DSN") or sys.exit(NO_SERVER)
    with closing(connect(dsn)) as conn, closing(conn.cursor()) as cursor:
        cursor.execute("VALUES (6 * 7, CURRENT LOCK TIMEOUT)")
        answer, lock_wait = cursor.fetchone()
        print(f"the answer is {answer}, a lock is waited for {lock_wait} s")
    try:
        connection_string(DATABASE="SHOP;SECURITY=OFF")
    except ValueError as error:
        print(f"refused: {error}")


if __name__ == "__main__":
    main()
