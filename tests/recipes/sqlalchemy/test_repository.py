import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from sqlalchemy import create_engine, event, func, select, update
from sqlalchemy.orm import Session

from recipes.sqlalchemy.repository import Base, Order, SqlOrders, settle


# --8<-- [start:fake]
class OrdersInMemory:
    """The same protocol without a database, for the tests of the program."""

    def __init__(self):
        self._orders, self._numbers = {}, count(1)

    def add(self, order):
        order.id, order.paid = next(self._numbers), bool(order.paid)
        self._orders[order.id] = order
        return order.id

    def get(self, number):
        return self._orders[number]  # a KeyError is a LookupError

    def unpaid(self, customer):
        mine = (it for it in self._orders.values() if it.customer == customer)
        return [order for order in mine if not order.paid]

    def mark_paid(self, number):
        order = self._orders.get(number)
        if order is None or order.paid:
            return False
        order.paid = True
        return True


# --8<-- [end:fake]


@pytest.fixture
def engine(database):
    engine = create_engine(database)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def session(engine):
    with Session(engine) as session:
        yield session


@pytest.fixture(params=["sql", "memory"])
def orders(request, session):
    """Each test of the protocol runs on both."""
    return SqlOrders(session) if request.param == "sql" else OrdersInMemory()


def test_add_returns_the_number(orders):
    """Both the repository and its stand-in return the number of a new order."""
    numbers = [orders.add(Order(customer="ann", cents=n)) for n in (1, 2)]
    assert numbers == sorted(set(numbers))
    assert [orders.get(number).cents for number in numbers] == [1, 2]


def test_get_what_is_not_there(orders):
    """An order that is not there is a LookupError."""
    with pytest.raises(LookupError):
        orders.get(99)


def test_unpaid(orders):
    """The unpaid orders of that customer alone, the oldest first."""
    for customer, paid in (("ann", 0), ("bob", 0), ("ann", 1), ("ann", 0)):
        orders.add(Order(customer=customer, cents=1, paid=bool(paid)))
    assert [order.id for order in orders.unpaid("ann")] == [1, 4]


def test_mark_paid_once(orders):
    """Only the first that marks it paid is told so."""
    number = orders.add(Order(customer="ann", cents=1))
    assert [orders.mark_paid(number) for _ in range(2)] == [True, False]
    assert orders.get(number).paid is True
    assert orders.mark_paid(99) is False


@pytest.mark.parametrize(
    ("cents", "left", "unpaid"),
    [(2000, 100, [9000]), (10_900, 0, []), (399, 399, [1500, 9000, 400])],
)
def test_settle(orders, cents, left, unpaid):
    """The program behaves the same with the database and with its stand-in."""
    for price in (1500, 9000, 400):
        orders.add(Order(customer="ann", cents=price))
    assert settle(orders, "ann", cents) == left
    assert [order.cents for order in orders.unpaid("ann")] == unpaid


def place(engine, *prices):
    with Session(engine) as session, session.begin():
        for price in prices:
            SqlOrders(session).add(Order(customer="ann", cents=price))


def paid(engine):
    with Session(engine) as session:
        query = select(Order.cents).where(Order.paid).order_by(Order.id)
        return list(session.scalars(query))


def test_the_caller_commits(engine):
    """The repository does not commit: an error after it takes its work back."""
    place(engine, 100, 200)

    def work():
        with Session(engine) as session, session.begin():
            orders = SqlOrders(session)
            orders.add(Order(customer="ann", cents=300))
            assert settle(orders, "ann", 600) == 0
            raise ConnectionError("the mail server is gone")

    with pytest.raises(ConnectionError):
        work()
    assert paid(engine) == []
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Order)) == 2


def test_settle_at_the_same_time(engine):
    """Two payments at the same moment pay each order once."""
    place(engine, *[100] * 10)
    meet = threading.Barrier(2)

    def run(_):
        with Session(engine) as session, session.begin():
            meet.wait(10)
            return settle(SqlOrders(session), "ann", 700)

    with ThreadPoolExecutor() as pool:
        assert sum(pool.map(run, range(2))) == 400
    assert paid(engine) == [100] * 10


def test_paid_after_the_look(engine):
    """Somebody pays an order after it was found unpaid: it is not paid again, on
    SQLite; elsewhere the look locks, and the other has to wait."""
    place(engine, 100, 100)

    class OtherIsFaster(SqlOrders):
        def unpaid(self, customer):
            found = super().unpaid(customer)
            if engine.dialect.name == "sqlite":
                with engine.begin() as other:
                    other.execute(update(Order).where(Order.id == 1).values(paid=True))
            return found

    with Session(engine) as session, session.begin():
        left = settle(OtherIsFaster(session), "ann", 200)
    assert left == (100 if engine.dialect.name == "sqlite" else 0)
    assert paid(engine) == [100, 100]


def test_the_look_locks(engine):
    """The look asks for row locks, which SQLite has none of."""
    sent = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(conn, cursor, statement, *_):
        sent.append("FOR UPDATE" in statement)

    with Session(engine) as session:
        SqlOrders(session).unpaid("ann")
    assert sent == [engine.dialect.name != "sqlite"]


def test_the_look_is_fresh(engine, session):
    """An order that the session has read before shows what it is now."""
    place(engine, 100)
    order = SqlOrders(session).get(1)
    session.connection().execute(update(Order).values(cents=150))
    SqlOrders(session).unpaid("ann")
    assert order.cents == 150


def test_changes_of_objects(engine):
    """A change of an object that was not yet sent is sent, not dropped."""
    place(engine, 100, 200)
    with Session(engine) as session, session.begin():
        orders = SqlOrders(session)
        orders.get(2).cents = 250
        assert orders.mark_paid(1)
    with Session(engine) as session:
        assert SqlOrders(session).get(2).cents == 250


# --8<-- [start:wrong]
class OrdersAsOftenCopied:
    def __init__(self, session):
        self.session = session

    def create(self, **values):
        order = Order(**values)
        self.session.add(order)
        return order.id

    def pay(self, number):
        order = self.session.get(Order, number)
        order.paid = True
        self.session.commit()


# --8<-- [end:wrong]


def test_often_copied_returns_none(session):
    """Often copied: it returns the number before there is one: None."""
    assert OrdersAsOftenCopied(session).create(customer="ann", cents=1) is None


def test_often_copied_commits_half(engine, session):
    """Often copied: each method commits, so an error between two leaves the first."""
    place(engine, 100, 200)
    orders = OrdersAsOftenCopied(session)
    orders.pay(1)
    with pytest.raises(AttributeError):
        orders.pay(99)
    session.rollback()
    assert paid(engine) == [100]
