# /// script
# requires-python = ">=3.11"
# dependencies = ["mssql-python>=1.16"]
# ///
"""Pass a table to a procedure as JSON.

mssql-python has no table-valued parameters. A JSON text does the same work: one call
carries an order and all its lines, and OPENJSON makes a table of it, with types.
"""

import json
import os
import sys
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

import mssql_python
from mssql_python import Connection

# --8<-- [start:schema]
SCHEMA = (  # each a batch of its own, as the server wants it
    "CREATE TABLE purchase (id int IDENTITY PRIMARY KEY, customer int NOT NULL)",
    """
    CREATE TABLE purchase_line (
        purchase int REFERENCES purchase,
        product  nvarchar(100),
        quantity int NOT NULL CHECK (quantity > 0),
        price    decimal(12, 2) NOT NULL CHECK (price >= 0),
        PRIMARY KEY (purchase, product)
    )
    """,
    """
    CREATE PROCEDURE add_purchase @customer int, @lines nvarchar(max) AS
    SET NOCOUNT ON; -- a count of rows would come before the answer
    INSERT INTO purchase (customer) VALUES (@customer);
    DECLARE @id int = SCOPE_IDENTITY();
    INSERT INTO purchase_line (purchase, product, quantity, price)
        SELECT @id, product, quantity, price
        FROM OPENJSON(@lines) WITH (
            product  nvarchar(100)  'strict $.product',
            quantity int            'strict $.quantity',
            price    decimal(12, 2) 'strict $.price'
        );
    SELECT @id;
    """,
)
# --8<-- [end:schema]


# --8<-- [start:call]
class Line(NamedTuple):
    product: str
    quantity: int
    price: Decimal


def add_purchase(conn: Connection, customer: int, lines: Sequence[Line]) -> int:
    """Store the order with all its lines, and return its number; the caller commits.

    Raises ValueError without lines, mssql_python.Error for what the tables refuse.
    """
    if not lines:
        raise ValueError("an order without lines")
    # default=str: the price goes as a text, digit for digit; a float has lost some.
    text = json.dumps([line._asdict() for line in lines], default=str)
    with conn.cursor() as cursor:
        cursor.execute("EXEC add_purchase ?, ?", customer, text)
        [[number]] = cursor.fetchall()
    return int(number)


# --8<-- [end:call]

NO_SERVER = (
    "Set SQLSERVER_DSN, for example Server=127.0.0.1,11433;Database=master;UID=sa;"
    "PWD=Cook_Book1;Encrypt=yes;TrustServerCertificate=yes"
    " after `docker compose up -d --wait sqlserver`"
)


def main() -> None:
    dsn = os.environ.get("SQLSERVER_DSN") or sys.exit(NO_SERVER)
    with mssql_python.connect(dsn, timeout=5) as conn:
        conn.timeout = 30
        for statement in SCHEMA:
            conn.execute(statement)
        lines = [Line("bolt", 100, Decimal("0.10")), Line("nut", 100, Decimal("0.05"))]
        number = add_purchase(conn, 7, lines)
        conn.commit()
        query = "SELECT product, quantity * price FROM purchase_line WHERE purchase = ?"
        for product, total in conn.execute(query, number).fetchall():
            print(f"{product}: {total}")
        try:
            add_purchase(conn, 7, [Line("bolt", 0, Decimal("0.10"))])
        except mssql_python.Error:
            conn.rollback()
            print("refused: a line of nothing")


if __name__ == "__main__":
    main()
