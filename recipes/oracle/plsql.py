# /// script
# requires-python = ">=3.11"
# dependencies = ["oracledb>=3.4"]
# ///
"""Call PL/SQL: procedures, functions, cursors, and the errors they raise.

A procedure that does not compile is created all the same, with a warning that nobody
sees. Here it is an error, as are the application's own.
"""

import os
import sys
from decimal import Decimal

import oracledb

NO_SERVER = (
    "Set ORACLE_DSN, for example cook/cook@127.0.0.1:11521/FREEPDB1"
    " after `docker compose up -d --wait oracle`"
)
TABLE = """
CREATE TABLE stock (
    item  VARCHAR2(50) PRIMARY KEY,
    price NUMBER(9, 2) NOT NULL,
    held  NUMBER(9) NOT NULL CHECK (held >= 0)
)
"""
BOOK = """
CREATE OR REPLACE PROCEDURE book(wanted VARCHAR2, pieces NUMBER, total OUT NUMBER) IS
BEGIN
    UPDATE stock SET held = held - pieces WHERE item = wanted
        RETURNING price * pieces INTO total;
    IF SQL%ROWCOUNT = 0 THEN
        RAISE_APPLICATION_ERROR(-20001, 'no such item: ' || wanted);
    END IF;
    DBMS_OUTPUT.PUT_LINE('booked ' || pieces || ' of ' || wanted);
END;
"""
CHEAPER = """
CREATE OR REPLACE FUNCTION cheaper(max_price NUMBER) RETURN SYS_REFCURSOR IS
    found SYS_REFCURSOR;
BEGIN
    OPEN found FOR SELECT item FROM stock WHERE price < max_price ORDER BY item;
    RETURN found;
END;
"""


# --8<-- [start:compile]
def compile_plsql(conn: oracledb.Connection, name: str, source: str) -> None:
    """Create the procedure, function, package or trigger of that name from source.

    Raises ValueError, with the compiler's words, when it is created but not valid.
    """
    with conn.cursor() as cursor:
        cursor.execute(source)
        if cursor.warning is None:
            return
        cursor.execute(
            "SELECT line, position, text FROM user_errors"
            " WHERE name = UPPER(:name) ORDER BY sequence",
            name=name,
        )
        errors = [f"{line}:{position}: {text}" for line, position, text in cursor]
    raise ValueError(f"{name} does not compile:\n" + "\n".join(errors))


# --8<-- [end:compile]


# --8<-- [start:call]
def book(conn: oracledb.Connection, item: str, pieces: int) -> Decimal:
    """Take pieces of an item, and return what they cost. Does not commit.

    Raises LookupError (no such item), IntegrityError (not so many are held).
    """
    with conn.cursor() as cursor:
        total = cursor.var(Decimal)  # an OUT parameter is a variable of the driver
        try:
            cursor.callproc("book", [item, pieces, total])
        except oracledb.DatabaseError as error:
            if error.args[0].code == 20001:  # the procedure's own number
                raise LookupError(item) from error
            raise
        return Decimal(total.getvalue())


def cheaper(conn: oracledb.Connection, price: Decimal) -> list[str]:
    """Return the items that cost less, from a function that returns a cursor."""
    with (
        conn.cursor() as cursor,
        cursor.callfunc("cheaper", oracledb.DB_TYPE_CURSOR, [price]) as rows,
    ):
        return [item for (item,) in rows]


# --8<-- [end:call]


# --8<-- [start:output]
def output(conn: oracledb.Connection) -> list[str]:
    """Return the lines of DBMS_OUTPUT since the last call, if it was enabled before."""
    lines: list[str] = []
    with conn.cursor() as cursor:
        buffer = cursor.arrayvar(str, 100)
        count = cursor.var(int)
        while True:
            count.setvalue(0, 100)  # how many there is room for, and then were filled
            cursor.callproc("dbms_output.get_lines", [buffer, count])
            filled = count.getvalue()
            lines += [line or "" for line in buffer.getvalue()[:filled]]
            if filled < 100:
                return lines


# --8<-- [end:output]


def main() -> None:
    dsn = os.environ.get("ORACLE_DSN") or sys.exit(NO_SERVER)
    with oracledb.connect(dsn, tcp_connect_timeout=5) as conn, conn.cursor() as cursor:
        conn.call_timeout = 30_000  # milliseconds
        cursor.execute(TABLE)
        cursor.execute("INSERT INTO stock VALUES ('cup', 4.10, 10)")
        compile_plsql(conn, "book", BOOK)
        compile_plsql(conn, "cheaper", CHEAPER)
        cursor.callproc("dbms_output.enable")
        print("3 cups cost", book(conn, "cup", 3))
        print("it said:", *output(conn))
        print("cheaper than 10:", cheaper(conn, Decimal(10)))


if __name__ == "__main__":
    main()
