from datetime import date, timedelta
from itertools import product

import pytest
from sqlalchemy import create_engine, func, select
from sqlalchemy.ext.hybrid import hybrid_method, hybrid_property
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from recipes.sqlalchemy.hybrid_properties import Base, Invoice, overdue

TODAY = date(2026, 3, 1)
DAY = timedelta(days=1)


@pytest.fixture
def session(database):
    """Every combination of discount, due date and payment."""
    engine = create_engine(database)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        rest = product((None, 0, 30), (TODAY - DAY, TODAY, TODAY + DAY), (None, TODAY))
        for number, (discount, due, paid) in enumerate(rest, 1):
            session.add(
                Invoice(
                    id=number,
                    cents=100 * number,
                    discount=discount,
                    due_on=due,
                    paid_on=paid,
                )
            )
    with Session(engine) as session:
        yield session
    engine.dispose()


def test_total_is_the_same(session):
    """The total is the same in Python and in SQL, with and without a discount."""
    rows = session.execute(select(Invoice, Invoice.total)).all()
    assert len(rows) == 18
    assert [invoice.total for invoice, _ in rows] == [total for _, total in rows]
    assert {invoice.cents - invoice.total for invoice, _ in rows} == {0, 30}


def test_overdue_is_the_same(session):
    """Overdue is the same in Python and in SQL: unpaid, and due before today."""
    in_sql = {invoice.id for invoice in overdue(session, TODAY)}
    everything = list(session.scalars(select(Invoice)))
    assert in_sql == {one.id for one in everything if one.is_overdue(TODAY)}
    assert in_sql == {1, 7, 13}


def test_largest_first(session):
    """A hybrid sorts in SQL: the largest total comes first."""
    assert [one.total for one in overdue(session, TODAY)] == [1270, 700, 100]


def test_sum(session):
    """A hybrid can be summed up: the database does it, and NULL is no discount."""
    everything = list(session.scalars(select(Invoice)))
    in_sql = session.scalar(select(func.sum(Invoice.total)))
    assert in_sql == sum(one.total for one in everything)


def test_unsaved_object():
    """It works on an object that was never stored."""
    invoice = Invoice(cents=100, discount=1, due_on=TODAY - DAY)
    assert (invoice.total, invoice.is_overdue(TODAY)) == (99, True)


# --8<-- [start:wrong]
class WrongBase(DeclarativeBase): ...


class WrongInvoice(WrongBase):
    __tablename__ = "invoice"
    id: Mapped[int] = mapped_column(primary_key=True)
    cents: Mapped[int]
    discount: Mapped[int | None]
    due_on: Mapped[date]
    paid_on: Mapped[date | None]

    @hybrid_property
    def total(self):
        return self.cents - self.discount if self.discount else self.cents

    @hybrid_method
    def is_overdue(self, today):
        return self.paid_on is None and self.due_on < today


# --8<-- [end:wrong]


def test_often_copied_finds_nothing(session):
    """Often copied: without an expression, `is None` asks about the column itself: the
    query finds no invoice, without an error."""
    query = select(WrongInvoice).where(WrongInvoice.is_overdue(TODAY))
    assert session.scalars(query).all() == []


def test_often_copied_is_null(session):
    """Often copied: `if self.discount` is always true in a query; without a discount
    the total is NULL: the sum leaves those invoices out."""
    query = select(WrongInvoice.total).where(WrongInvoice.discount.is_(None))
    assert set(session.scalars(query)) == {None}
    wrong = session.scalar(select(func.sum(WrongInvoice.total)))
    assert wrong < session.scalar(select(func.sum(Invoice.total)))
