# /// script
# requires-python = ">=3.11"
# dependencies = ["pyodbc>=5.3"]
# ///
"""Pass a table to a procedure.

One call carries an order and all its lines. The rows arrive as a table of a declared
type: no text is taken apart over there, and no statement is sent for each line.
"""

import os
import sys
from collections.abc import Sequence
from contextlib import closing
from decimal import Decimal
from typing import NamedTuple

try:
    import pyodbc
except ImportError as error:  # the wheel is without libodbc.so.2
    raise ImportError(f"{error}: install unixODBC (apt-get install unixodbc)") from None

DRIVER = "Driver={ODBC Driver 18 for SQL Server};"

# --8<-- [start:schema]
SCHEMA = (  # each a batch of its own, as the server wants it
    """
    CREATE TYPE order_line AS TABLE (
        product  nvarchar(100) PRIMARY KEY,
        quantity int NOT NULL CHECK (quantity > 0),
        price    decimal(12, 2) NOT NULL CHECK (price >= 0)
    )
    """,
    "CREATE TABLE purchase (id int IDENTITY PRIMARY KEY, customer int NOT NULL)",
    """
    CREATE TABLE purchase_line (
        purchase int REFERENCES purchase,
        product  nvarchar(100),
        quantity int NOT NULL,
        price    decimal(12, 2) NOT NULL,
        PRIMARY KEY (purchase, product)
    )
    """,
    """
    CREATE PROCEDURE add_purchase @customer int, @lines order_line READONLY AS
    SET NOCOUNT ON; -- a count of rows would come before the answer
    INSERT INTO purchase (customer) VALUES (@customer);
    DECLARE @id int = SCOPE_IDENTITY();
    INSERT INTO purchase_line (purchase, product, quantity, price)
        SELECT @id, product, quantity, price FROM @lines;
    SELECT @id;
    """,
)
# --8<-- [end:schema]


# --8<-- [start:call]
class Line(NamedTuple):
    product: str
    quantity: int
    price: Decimal


def add_purchase(conn: pyodbc.Connection, customer: int, lines: Sequence[Line]) -> int:
    """Store the order with all its lines, commit, and return its number.

    Raises ValueError without lines, pyodbc.Error for what the type or a table refuses;
    then nothing was stored.
    """
    if not lines:
        raise ValueError("an order without lines")
    # The name of the type comes first; then the driver need not ask the server for it.
    table = ["order_line", "dbo", *map(tuple, lines)]
    try:
        with closing(conn.cursor()) as cursor:
            cursor.execute("EXEC add_purchase ?, ?", customer, table)
            [[number]] = cursor.fetchall()
        conn.commit()
    except BaseException:
        conn.rollback()
        raise
    return int(number)


# --8<-- [end:call]

NO_SERVER = (
    "Set SQLSERVER_DSN, for example Server=127.0.0.1,11433;Database=master;UID=sa;"
    "PWD=Cook_Book1;Encrypt=yes;TrustServerCertificate=yes"
    " after `docker compose up -d --wait sqlserver`"
)


def main() -> None:
    dsn = os.environ.get("SQLSERVER_DSN") or sys.exit(NO_SERVER)
    with closing(pyodbc.connect(DRIVER + dsn, timeout=5)) as conn:
        conn.timeout = 30
        for statement in SCHEMA:
            conn.execute(statement)
        conn.commit()
        lines = [Line("bolt", 100, Decimal("0.10")), Line("nut", 100, Decimal("0.05"))]
        number = add_purchase(conn, 7, lines)
        query = "SELECT product, quantity * price FROM purchase_line WHERE purchase = ?"
        for product, total in conn.execute(query, number).fetchall():
            print(f"{product}: {total}")
        try:
            add_purchase(conn, 7, [Line("bolt", 0, Decimal("0.10"))])
        except pyodbc.Error:
            print("refused: a line of nothing")


if __name__ == "__main__":
    main()
