# /// script
# requires-python = ">=3.11"
# dependencies = ["sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Insert rows, or update those that are there.

Each engine has a statement that does both at once, safe against others who do the same.
SQLAlchemy knows it by dialect; this makes one function of them.
"""

import os
import sys
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Insert, String, create_engine, select
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase): ...


class Product(Base):
    __tablename__ = "product"
    sku: Mapped[str] = mapped_column(String(20), primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    stock: Mapped[int] = mapped_column(default=0)


# --8<-- [start:upsert]
def upsert(
    session: Session,
    model: type[DeclarativeBase],
    rows: Sequence[dict[str, Any]],
    *,
    key: Sequence[str],
    update: Sequence[str],
) -> None:
    """Insert the rows; where `key` is there already, replace the `update` columns.

    The key must be a primary key or a unique constraint. Part of the session's
    transaction. Raises ValueError for an engine without such a statement.
    """
    if not rows:
        return
    insert: Insert
    match dialect := session.get_bind().dialect.name:
        case "postgresql" | "sqlite":
            make = postgresql.insert if dialect == "postgresql" else sqlite.insert
            on_conflict = make(model)
            insert = on_conflict.on_conflict_do_update(
                index_elements=key,
                set_={name: on_conflict.excluded[name] for name in update},
            )
        case "mysql" | "mariadb":  # any unique key counts there, not `key` alone
            on_duplicate = mysql.insert(model)
            insert = on_duplicate.on_duplicate_key_update(
                {name: on_duplicate.inserted[name] for name in update}
            )
        case _:
            raise ValueError(f"no upsert for {dialect}")
    session.execute(insert, rows)
    session.expire_all()  # objects in memory do not know of it


# --8<-- [end:upsert]

NO_SERVER = (
    "Set DATABASE_URL, for example"
    " postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"
)


def main() -> None:
    url = os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER)
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    tea = {"sku": "T1", "name": "tea", "stock": 5}
    cups = {"sku": "C1", "name": "cup", "stock": 8}
    for rows in ([tea], [{**tea, "name": "green tea", "stock": 7}, cups]):
        with Session(engine) as session, session.begin():
            upsert(session, Product, rows, key=["sku"], update=["stock"])
    with Session(engine) as session:
        for product in session.scalars(select(Product).order_by(Product.sku)):
            print(product.sku, product.name, product.stock)
    engine.dispose()


if __name__ == "__main__":
    main()
