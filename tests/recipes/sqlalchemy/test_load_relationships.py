"""load_relationships: the statements are counted."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, event, exc, inspect, select
from sqlalchemy.orm import Session, joinedload, lazyload

from recipes.sqlalchemy.load_relationships import (
    Base,
    Customer,
    Order,
    customers_with_orders,
    orders_with_customer,
    spent,
)


@pytest.fixture
def engine(database) -> Iterator[Engine]:
    """With 50 customers; number 50 has no order, all others have two."""
    engine = create_engine(database)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        for n in range(1, 51):
            orders = [Order(total=n), Order(total=100)] if n < 50 else []
            session.add(Customer(id=n, name=f"customer {n}", orders=orders))
            session.flush()
    yield engine
    engine.dispose()


@pytest.fixture
def sent(engine) -> list[str]:
    """The statements from now on."""
    sent = []
    event.listen(engine, "before_cursor_execute", lambda *args: sent.append(args[2]))
    return sent


def test_selectin(engine, sent):
    """50 customers and their 98 orders: 2 statements."""
    with Session(engine) as session:
        customers = customers_with_orders(session)
        counts = [len(customer.orders) for customer in customers]
    assert counts == [2] * 49 + [0]
    assert len(sent) == 2


def test_selectin_keeps_the_limit(engine, sent):
    """A limit counts customers, and each of them has all of its orders."""
    with Session(engine) as session:
        customers = customers_with_orders(session, limit=3)
        assert [len(customer.orders) for customer in customers] == [2, 2, 2]
    assert len(sent) == 2


def test_joined(engine, sent):
    """98 orders and their customers: 1 statement, and one object for each customer."""
    with Session(engine) as session:
        customers = [order.customer for order in orders_with_customer(session)]
    assert len(customers) == 98
    assert len(set(customers)) == 49
    assert len(sent) == 1


def test_spent(engine, sent):
    """The sums need 1 statement and no objects; who has no order has spent 0."""
    with Session(engine) as session:
        sums = spent(session)
        assert not list(session)
    assert (len(sums), sums["customer 7"], sums["customer 50"]) == (50, 107, 0)
    assert len(sent) == 1


def test_usable_after_the_session(engine):
    """What was loaded can be read after the session is closed."""
    with Session(engine) as session:
        customers = customers_with_orders(session)
    assert customers[0].orders[0].total == 1


def test_forgotten_one_raises(engine, sent):
    """A relationship that the query does not load raises, and sends nothing."""
    with Session(engine) as session:
        customer = session.scalars(select(Customer).limit(1)).one()
        order = session.scalars(select(Order).limit(1)).one()
        sent.clear()
        with pytest.raises(exc.InvalidRequestError, match="lazy='raise'"):
            len(customer.orders)
        with pytest.raises(exc.InvalidRequestError, match="lazy='raise'"):
            print(order.customer)
    assert sent == []


def test_index(engine):
    """The foreign key has an index; PostgreSQL and SQLite make none by themselves."""
    indexes = inspect(engine).get_indexes("orders")
    assert ["customer_id"] in [index["column_names"] for index in indexes]


# --8<-- [start:wrong]
def count_as_often_copied(session, query):  # relationship() without lazy="raise"
    return {customer.name: len(customer.orders) for customer in session.scalars(query)}


# --8<-- [end:wrong]


def test_often_copied_51_statements(engine, sent):
    """Often copied: 51 statements for 50 customers."""
    lazy = select(Customer).options(lazyload(Customer.orders))
    with Session(engine) as session:
        assert len(count_as_often_copied(session, lazy)) == 50
    assert len(sent) == 51


def test_often_copied_joined_list(engine):
    """Often copied: a list by `joinedload` needs `unique()`, and raises without it."""
    query = select(Customer).options(joinedload(Customer.orders))
    with Session(engine) as session:
        with pytest.raises(exc.InvalidRequestError, match="unique"):
            session.scalars(query).all()
        assert len(session.scalars(query).unique().all()) == 50


def test_often_copied_join_and_limit(engine):
    """Often copied: a plain join with a limit counts orders, not customers."""
    query = select(Customer).join(Order).order_by(Customer.id).limit(4)
    with Session(engine) as session:
        assert len(session.scalars(query).unique().all()) == 2
