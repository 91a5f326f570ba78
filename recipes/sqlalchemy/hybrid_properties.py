# /// script
# requires-python = ">=3.11"
# dependencies = ["sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Write a rule once, for objects and for queries.

"Overdue" means the same for an invoice in memory and in WHERE. A hybrid holds both
forms side by side, and the tests compare them.
"""

import os
import sys
from datetime import date

from sqlalchemy import ColumnElement, and_, create_engine, func, select
from sqlalchemy.ext.hybrid import hybrid_method, hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


# --8<-- [start:model]
class Base(DeclarativeBase): ...


class Invoice(Base):
    __tablename__ = "invoice"
    id: Mapped[int] = mapped_column(primary_key=True)
    cents: Mapped[int]
    discount: Mapped[int | None]  # cents
    due_on: Mapped[date]
    paid_on: Mapped[date | None]

    @hybrid_property
    def total(self) -> int:
        """What is to be paid, in cents."""
        return self.cents - (self.discount or 0)

    @total.inplace.expression
    @classmethod
    def _total(cls) -> ColumnElement[int]:
        return cls.cents - func.coalesce(cls.discount, 0)

    @hybrid_method
    def is_overdue(self, today: date) -> bool:
        """Whether it was due before that day, and is not paid."""
        return self.paid_on is None and self.due_on < today

    @is_overdue.expression
    @classmethod
    def _is_overdue(cls, today: date) -> ColumnElement[bool]:
        return and_(cls.paid_on.is_(None), cls.due_on < today)


# --8<-- [end:model]


# --8<-- [start:query]
def overdue(session: Session, today: date) -> list[Invoice]:
    """The overdue invoices, the largest first."""
    query = (
        select(Invoice)
        .where(Invoice.is_overdue(today))
        .order_by(Invoice.total.desc(), Invoice.id)
    )
    return list(session.scalars(query))


# --8<-- [end:query]

NO_SERVER = (
    "Set DATABASE_URL, for example"
    " postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"
)


def main() -> None:
    url = os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER)
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    due, today = date(2026, 1, 31), date(2026, 3, 1)
    with Session(engine) as session, session.begin():
        session.add(Invoice(id=1, cents=5_000, due_on=due))
        session.add(Invoice(id=2, cents=9_000, discount=500, due_on=due))
        session.add(Invoice(id=3, cents=7_000, due_on=due, paid_on=due))
        session.add(Invoice(id=4, cents=8_000, due_on=today))
    with Session(engine) as session:
        for invoice in overdue(session, today):
            print(f"invoice {invoice.id}: {invoice.total} cents, due {invoice.due_on}")
        print("to be paid in all:", session.scalar(select(func.sum(Invoice.total))))
    engine.dispose()


if __name__ == "__main__":
    main()
