"""query_select: every row counts once."""

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, func, select
from sqlalchemy.orm import Session

from recipes.sqlalchemy.query_select import (
    Base,
    Customer,
    Order,
    Payment,
    largest_orders,
    owed,
    without_orders,
)


@pytest.fixture
def session(database) -> Iterator[Session]:
    """anna ordered 1200 and paid 500, ben owes 100, carl never came, dora
    has paid everything; an order over the counter belongs to nobody."""
    engine = create_engine(database)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for number, name in enumerate(["anna", "ben", "carl", "dora"], 1):
            session.add(Customer(id=number, name=name))
        session.flush()
        orders = [(1, 500), (1, 700), (2, 100), (4, 50), (None, 300)]
        session.add_all(Order(customer_id=who, cents=cents) for who, cents in orders)
        for who, cents in [(1, 200), (1, 300), (4, 50)]:
            session.add(Payment(customer_id=who, cents=cents))
        session.commit()
        yield session
    engine.dispose()


def test_owed(session):
    """The debt is the orders less the payments, each counted once, and the largest
    comes first; who has paid nothing owes everything."""
    assert list(owed(session).items()) == [("anna", 700), ("ben", 100)]


def test_owed_at_least(session):
    """A limit picks the larger debts; 0 includes who has paid everything."""
    assert owed(session, at_least=500) == {"anna": 700}
    assert owed(session, at_least=0) == {"anna": 700, "ben": 100, "dora": 0}


def test_numbers_are_integers(session):
    """The sums are int on every database; MySQL itself answers with a decimal."""
    assert {type(cents) for cents in owed(session).values()} == {int}


def test_without_orders(session):
    """Who has no order is found, though an order without a customer exists."""
    assert without_orders(session) == ["carl"]


def test_largest(session):
    """The largest order of each customer, and none for who has no order."""
    assert largest_orders(session) == [("anna", 700), ("ben", 100), ("dora", 50)]


def test_largest_two(session):
    """The two largest of each, in order."""
    assert largest_orders(session, each=2)[:3] == [
        ("anna", 700),
        ("anna", 500),
        ("ben", 100),
    ]


def test_largest_of_equals(session):
    """Of two orders of the same size, one is the largest."""
    session.add(Order(customer_id=2, cents=100))
    session.flush()
    assert largest_orders(session) == [("anna", 700), ("ben", 100), ("dora", 50)]


# --8<-- [start:wrong]
def owed_as_often_copied(session):
    query = (
        select(Customer.name, func.sum(Order.cents) - func.sum(Payment.cents))
        .join(Order, Order.customer_id == Customer.id)
        .join(Payment, Payment.customer_id == Customer.id)
        .group_by(Customer.name)
    )
    return dict(session.execute(query).all())


def without_orders_as_often_copied(session):
    buyers = select(Order.customer_id)
    return session.scalars(
        select(Customer.name).where(Customer.id.not_in(buyers))
    ).all()


# --8<-- [end:wrong]


def test_often_copied_counts_twice(session):
    """Often copied: two orders and two payments make four rows: anna owes 1400, not
    700."""
    assert owed_as_often_copied(session)["anna"] == 1400


def test_often_copied_leaves_out(session):
    """Often copied: an inner join leaves out ben, who has paid nothing."""
    assert "ben" not in owed_as_often_copied(session)


def test_often_copied_not_in(session):
    """Often copied: `NOT IN` finds nobody as soon as one order has no customer."""
    assert without_orders_as_often_copied(session) == []


def test_often_copied_same_name(session):
    """Often copied: grouped by name, two customers of one name become one."""
    session.add(Customer(id=5, name="anna"))
    session.flush()
    session.add_all([Order(customer_id=5, cents=1), Payment(customer_id=5, cents=1)])
    session.flush()
    assert set(owed_as_often_copied(session)) == {"anna", "dora"}
