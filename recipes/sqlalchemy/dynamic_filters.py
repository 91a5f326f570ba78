# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Filter and sort by what a user asks for.

A search form has many fields, and most are empty. Add one condition for each that is
filled; take the sort order from a list of allowed ones, never a column name from a URL.
"""

import os
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, String, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


class Product(Base):
    __tablename__ = "product"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    color: Mapped[str | None] = mapped_column(String(20))
    cents: Mapped[int]


# --8<-- [start:search]
@dataclass(frozen=True)
class Search:
    """What was asked for; None means that it does not matter."""

    contains: str | None = None
    colors: Collection[str] | None = None  # an empty one matches nothing
    no_color: bool | None = None
    at_most: int | None = None  # cents; 0 is a price like any other
    sort: str = "name"


SORTS: dict[str, ColumnElement[Any]] = {
    "name": Product.name.asc(),
    "cheapest": Product.cents.asc(),
    "dearest": Product.cents.desc(),
}


def build_query(search: Search) -> Select[Product]:
    """One condition for each field that is set. Raises ValueError (unknown sort)."""
    if search.sort not in SORTS:
        raise ValueError(f"{search.sort!r} is none of {', '.join(SORTS)}")
    query = select(Product)
    if search.contains is not None:
        # autoescape: a `%` of the user's is a sign, not a wildcard
        query = query.where(Product.name.icontains(search.contains, autoescape=True))
    if search.colors is not None:
        query = query.where(Product.color.in_(search.colors))
    if search.no_color is not None:
        empty = Product.color.is_(None)
        query = query.where(empty if search.no_color else ~empty)
    if search.at_most is not None:
        query = query.where(Product.cents <= search.at_most)
    # The id last: rows that are equal come in the same order each time.
    return query.order_by(SORTS[search.sort], Product.id)


def find(session: Session, search: Search, limit: int = 100) -> Sequence[Product]:
    """The first products that match. Raises ValueError (unknown sort)."""
    return session.scalars(build_query(search).limit(limit)).all()


# --8<-- [end:search]

NO_SERVER = (
    "Set DATABASE_URL, for example postgresql+psycopg://cook:cook@127.0.0.1:15432"
    "/cookbook or sqlite:///app.db"
)


def main() -> None:
    engine = create_engine(os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER))
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add_all(
            [
                Product(name="Mug, 100% clay", color="brown", cents=1250),
                Product(name="mug", color="blue", cents=500),
                Product(name="Glass", cents=100),
            ]
        )
        session.flush()
        for search in (
            Search(contains="MUG", sort="cheapest"),
            Search(contains="100%"),
            Search(colors=["blue", "brown"], at_most=1000),
        ):
            print([product.name for product in find(session, search)])
    engine.dispose()


if __name__ == "__main__":
    main()
