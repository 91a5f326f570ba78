# /// script
# requires-python = ">=3.11"
# dependencies = ["alembic>=1.17", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["sqlite"]
# ///
"""Change a SQLite table with Alembic's batch mode, and lose nothing.

SQLite's ALTER TABLE can do little, so Alembic copies the table and drops the old one.
Unguarded, the drop deletes child rows and triggers, and a failure leaves half of it.
"""

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import BigInteger, Connection, Integer, create_engine


# --8<-- [start:guard]
@contextmanager
def guarded(conn: Connection) -> Iterator[None]:
    """One transaction around batch operations, committed at the end.

    Keeps child rows, triggers and views. Wants a connection without a transaction.
    Raises ValueError where a foreign key would be broken, Warning where Alembic could
    not copy something, and what the block raises: then nothing has changed.
    """
    sql = conn.exec_driver_sql
    checked = sql("PRAGMA foreign_keys").scalar()
    sql("PRAGMA foreign_keys = OFF")  # or DROP TABLE deletes the children
    if sql("PRAGMA foreign_keys").scalar():
        raise ValueError("in a transaction already: foreign keys cannot be turned off")
    try:
        sql("BEGIN IMMEDIATE")  # the driver begins none before DDL
        kept = sql(
            "SELECT type, name, sql FROM sqlite_master"
            " WHERE type IN ('trigger', 'view') ORDER BY type"
        ).all()
        quote = conn.dialect.identifier_preparer.quote_identifier
        for kind, name, _ in kept:
            sql(f"DROP {kind} {quote(name)}")
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # "skipped", "omitted": lost
            yield
        for _, _, create in reversed(kept):  # views before their triggers
            sql(create)
        if broken := sql("PRAGMA foreign_key_check").all():
            raise ValueError(f"broken foreign keys: {broken}")
        conn.commit()
    finally:
        conn.rollback()  # which does nothing after the commit
        sql(f"PRAGMA foreign_keys = {checked}")


# --8<-- [end:guard]


# --8<-- [start:migration]
def upgrade(op: Operations) -> None:
    """What belongs into upgrade() of the migration, where `op` is imported."""
    with op.batch_alter_table("orders") as batch:
        batch.alter_column("cents", existing_type=Integer(), type_=BigInteger())
        batch.create_check_constraint("ck_orders_cents", "cents >= 0")


# --8<-- [end:migration]

OLD = """\
CREATE TABLE customer (id INTEGER PRIMARY KEY, name TEXT NOT NULL);
CREATE TABLE orders (
    id INTEGER PRIMARY KEY,
    customer_id INTEGER NOT NULL,
    cents INTEGER NOT NULL DEFAULT 0,
    CONSTRAINT fk_orders_customer FOREIGN KEY (customer_id) REFERENCES customer (id)
);
CREATE TABLE line (
    order_id INTEGER NOT NULL,
    product TEXT NOT NULL,
    FOREIGN KEY (order_id) REFERENCES orders (id) ON DELETE CASCADE
);
CREATE INDEX ix_orders_large ON orders (customer_id, cents) WHERE cents > 10000;
CREATE TABLE log (order_id INTEGER, cents INTEGER);
CREATE TRIGGER orders_log AFTER UPDATE ON orders
    BEGIN INSERT INTO log VALUES (new.id, new.cents); END;
CREATE VIEW turnover AS SELECT customer_id, sum(cents) AS cents FROM orders GROUP BY 1;
INSERT INTO customer VALUES (1, 'Ann');
INSERT INTO orders VALUES (1, 1, 500), (2, 1, 700);
INSERT INTO line VALUES (1, 'tea'), (2, 'cup'), (2, 'pot')"""

NO_SERVER = "Set SQLITE_PATH to a file to create, for example cookbook.db"


def main() -> None:
    path = os.environ.get("SQLITE_PATH") or sys.exit(NO_SERVER)
    engine = create_engine(f"sqlite:///{path}")
    with engine.connect() as conn:
        conn.connection.executescript(OLD)
        with guarded(conn):
            upgrade(Operations(MigrationContext.configure(conn)))
        print("lines:", conn.exec_driver_sql("SELECT count(*) FROM line").scalar())
        names = "SELECT type, name FROM sqlite_master WHERE type != 'table'"
        for row in conn.exec_driver_sql(f"{names} ORDER BY name"):
            print(*row)
    engine.dispose()


if __name__ == "__main__":
    main()
