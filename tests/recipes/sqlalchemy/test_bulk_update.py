import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import create_engine, event, insert, select, update
from sqlalchemy.exc import DBAPIError, InvalidRequestError, OperationalError
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from recipes.sqlalchemy.bulk_update import Base, Product, raise_prices, update_rows


@pytest.fixture
def engine(database):
    """Ten products, for 100, 200 ... 1000 cents."""
    engine = create_engine(database)
    Base.metadata.create_all(engine)
    rows = [{"id": n, "name": f"p{n}", "cents": 100 * n} for n in range(1, 11)]
    with Session(engine) as session, session.begin():
        session.execute(insert(Product), rows)
    yield engine
    engine.dispose()


def updates(engine):
    """The UPDATE statements that go to the driver, as they go."""
    statements = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(conn, cursor, statement, *_):
        if statement.startswith("UPDATE"):
            statements.append(statement)

    return statements


def cents(engine):
    with Session(engine) as session:
        return list(session.scalars(select(Product.cents).order_by(Product.id)))


BEFORE = [100 * n for n in range(1, 11)]
AFTER = [110 * n for n in range(1, 11)]


def test_each_row_its_own_value(engine):
    """Each row gets its own values, in one batch; other rows and columns stay."""
    sent = updates(engine)
    with Session(engine) as session, session.begin():
        update_rows(session, Product, [{"id": n, "cents": n} for n in range(1, 9)])
    assert len(sent) == 1
    assert cents(engine) == [*range(1, 9), 900, 1000]
    with Session(engine) as session:
        assert session.get_one(Product, 1).name == "p1"


def test_row_that_is_not_there(engine):
    """A row that is not there is an error, and nothing has changed."""
    rows = [{"id": 1, "cents": 0}, {"id": 99, "cents": 0}]
    with (
        pytest.raises(StaleDataError, match=r"expected to update 2 row\(s\); 1"),
        Session(engine) as session,
        session.begin(),
    ):
        update_rows(session, Product, rows)
    assert cents(engine) == BEFORE


def test_same_value(engine):
    """A row that has the value already counts as found, on MySQL and MariaDB too."""
    with Session(engine) as session, session.begin():
        update_rows(session, Product, [{"id": 1, "cents": 100}])


def test_unknown_name(engine):
    """A name that the model lacks is refused: SQLAlchemy would drop its values."""
    rows = [{"id": 1, "cents": 0}, {"id": 2, "cent": 0}]
    with Session(engine) as session, pytest.raises(ValueError, match=r"no \['cent'\]"):
        update_rows(session, Product, rows)


def test_no_key(engine):
    """A row without its primary key is refused."""
    with (
        Session(engine) as session,
        pytest.raises(InvalidRequestError, match="primary"),
    ):
        update_rows(session, Product, [{"cents": 0}])
    assert cents(engine) == BEFORE


def test_no_rows(engine):
    """No rows: no statement."""
    sent = updates(engine)
    with Session(engine) as session, session.begin():
        update_rows(session, Product, [])
    assert sent == []


def test_objects_in_memory(engine):
    """An object that the session has loaded shows the new value."""
    with Session(engine) as session, session.begin():
        first = session.get_one(Product, 1)
        update_rows(session, Product, [{"id": 1, "cents": 5}])
        assert first.cents == 5


@pytest.mark.parametrize(("batch", "statements"), [(1, 10), (3, 4), (5, 2), (1000, 1)])
def test_one_rule(engine, batch, statements):
    """The rule changes every row once, in as many transactions as there are batches."""
    sent = updates(engine)
    assert raise_prices(engine, 10, price_list=2, batch=batch) == 10
    assert cents(engine) == AFTER
    assert len(sent) == statements


def test_ids_below_zero(engine):
    """Rows count whatever their ids are."""
    with Session(engine) as session, session.begin():
        session.add_all([Product(id=-n, name="x", cents=100) for n in (3, 4)])
    assert raise_prices(engine, 10, price_list=2, batch=5) == 12
    assert cents(engine) == [110, 110, *AFTER]


def test_again(engine):
    """Run again, it sends no change; with the next price list it does."""
    sent = updates(engine)
    assert [raise_prices(engine, 10, price_list=2) for _ in range(2)] == [10, 0]
    assert len(sent) == 1
    assert raise_prices(engine, 100, price_list=3) == 10
    assert cents(engine) == [220 * n for n in range(1, 11)]


def test_rounding(engine):
    """Prices are rounded to the cent, a half upwards, the same on every engine."""
    with Session(engine) as session, session.begin():
        rows = [{"id": n, "cents": n + 3} for n in range(1, 11)]
        update_rows(session, Product, rows)
    raise_prices(engine, 10, price_list=2)
    assert cents(engine) == [4, 6, 7, 8, 9, 10, 11, 12, 13, 14]


def test_large_price(engine):
    """A price of nine billion is no overflow."""
    with Session(engine) as session, session.begin():
        update_rows(session, Product, [{"id": 1, "cents": 9 * 10**11}])
    raise_prices(engine, 1, price_list=2)
    assert cents(engine)[0] == 909 * 10**9


def test_fails_half_way(engine):
    """The third batch fails: two stay done, and the next call does the rest, once."""

    def fail(conn, cursor, statement, *_):
        if statement.startswith("UPDATE"):
            sent.append(statement)
            if len(sent) == 3:
                raise ConnectionError("pulled the plug")

    sent = []
    event.listen(engine, "before_cursor_execute", fail)
    with pytest.raises(ConnectionError):
        raise_prices(engine, 10, price_list=2, batch=3)
    event.remove(engine, "before_cursor_execute", fail)
    assert cents(engine) == AFTER[:6] + BEFORE[6:]
    assert raise_prices(engine, 10, price_list=2, batch=3) == 4
    assert cents(engine) == AFTER


def test_lost_answer_to_commit(database, engine, fault_proxy):
    """The answer to COMMIT is lost: the next call finds what is done, and does not do
    it again. SQLite has no line to lose."""
    proxy = None if database.startswith("sqlite") else fault_proxy(database)
    cut = create_engine(proxy.url if proxy else database)
    if proxy:

        @event.listens_for(cut, "after_cursor_execute")
        def cut_the_answer(conn, cursor, statement, *_):
            if statement.startswith("UPDATE"):
                proxy.cut_answer_to(b"COMMIT")

        with pytest.raises(DBAPIError):
            raise_prices(cut, 10, price_list=2, batch=5)
        assert proxy.was_cut.is_set()
    cut.dispose()
    assert raise_prices(engine, 10, price_list=2) == (5 if proxy else 10)
    assert cents(engine) == AFTER


def test_at_the_same_time(engine):
    """Two that run it at the same moment change each price once, and share the
    count."""
    meet = threading.Barrier(2)

    def run(_):
        meet.wait(10)
        return raise_prices(engine, 10, price_list=2, batch=2)

    with ThreadPoolExecutor() as pool:
        assert sum(pool.map(run, range(2))) == 10
    assert cents(engine) == AFTER


def test_locks_what_it_found(engine):
    """Between look and change nobody else takes the rows, where the engine has row
    locks."""
    tried = []

    @event.listens_for(engine, "after_cursor_execute")
    def take(conn, cursor, statement, *_):
        if "FOR UPDATE" in statement and not tried:
            tried.append(statement)
            with engine.connect() as other, pytest.raises(OperationalError):
                other.execute(select(Product.id).with_for_update(nowait=True))

    assert raise_prices(engine, 10, price_list=2) == 10
    assert bool(tried) == (engine.dialect.name != "sqlite")


@pytest.mark.parametrize("how", [{"percent": 0}, {"percent": -110}, {"batch": 0}])
def test_mistakes(engine, how):
    """No percent, less than none, or a batch of nothing is refused."""
    with pytest.raises(ValueError, match="1 or more"):
        raise_prices(engine, **{"percent": 10, "price_list": 2, **how})
    assert cents(engine) == BEFORE


# --8<-- [start:wrong]
def raise_prices_as_often_copied(session, percent):
    session.execute(
        update(Product).values(cents=Product.cents * (100 + percent) // 100),
        execution_options={"synchronize_session": False},
    )
    session.commit()


# --8<-- [end:wrong]


def test_often_copied_raises_twice(database, engine, fault_proxy):
    """Often copied: the answer to COMMIT is lost, it is run again, and every price is
    raised twice."""
    proxy = None if database.startswith("sqlite") else fault_proxy(database)
    cut = create_engine(proxy.url if proxy else database)
    with Session(cut) as session:
        if proxy:
            session.connection()
            proxy.cut_answer_to(b"COMMIT")
            with pytest.raises(DBAPIError):
                raise_prices_as_often_copied(session, 10)
        else:
            raise_prices_as_often_copied(session, 10)
    cut.dispose()
    with Session(engine) as session:
        raise_prices_as_often_copied(session, 10)
    assert cents(engine) == [121 * n for n in range(1, 11)]


def test_often_copied_leaves_old_objects(engine):
    """Often copied: with synchronize_session=False, objects in memory keep the old
    value, and what is computed from them is wrong."""
    with Session(engine, expire_on_commit=False) as session:
        first = session.get_one(Product, 1)
        raise_prices_as_often_copied(session, 10)
        assert first.cents == 100
    assert cents(engine)[0] == 110
