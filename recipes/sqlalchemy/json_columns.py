# /// script
# requires-python = ">=3.11"
# dependencies = ["sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Store JSON in a column.

For data whose shape you do not control. Changes inside the document are noticed, and
queries compare values of it with their types, on every engine.
"""

import os
import sys
from typing import Any

from sqlalchemy import JSON, Engine, create_engine, select
from sqlalchemy.ext.mutable import MutableDict
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


# --8<-- [start:model]
class Base(DeclarativeBase): ...


class Event(Base):
    __tablename__ = "event"
    id: Mapped[int] = mapped_column(primary_key=True)
    # MutableDict notices event.data["x"] = 1; none_as_null stores None as NULL.
    data: Mapped[dict[str, Any] | None] = mapped_column(
        MutableDict.as_mutable(JSON(none_as_null=True))
    )


# --8<-- [end:model]


# --8<-- [start:query]
def dearer_than(session: Session, city: str, price: int) -> list[int]:
    """The ids of the events in that city that cost more; smallest id first."""
    query = (
        select(Event.id)
        .where(Event.data["place", "city"].as_string() == city)
        .where(Event.data["price"].as_integer() > price)
        .order_by(Event.id)
    )
    return list(session.scalars(query))


# --8<-- [end:query]


# --8<-- [start:change]
def move(engine: Engine, event: int, city: str) -> None:
    """Change the city of an event. Raises NoResultFound if there is no such event."""
    with Session(engine) as session, session.begin():
        # The lock: a change of one value writes the whole document.
        found = session.get_one(Event, event, with_for_update=True)
        data = found.data or {}
        # Assigned from the top: below the first level nothing is noticed.
        found.data = {**data, "place": {**data.get("place", {}), "city": city}}


# --8<-- [end:change]

NO_SERVER = (
    "Set DATABASE_URL, for example"
    " postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"
)


def main() -> None:
    url = os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER)
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        for number, (city, price) in enumerate((("Bern", 9), ("Bern", 100)), 1):
            data = {"place": {"city": city}, "price": price}
            session.add(Event(id=number, data=data))
    with Session(engine) as session:
        print("in Bern, more than 20:", dearer_than(session, "Bern", 20))
    move(engine, 1, "Basel")
    with Session(engine) as session:
        print("event 1:", session.get_one(Event, 1).data)
    engine.dispose()


if __name__ == "__main__":
    main()
