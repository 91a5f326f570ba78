"""unit_of_work: few statements, in order, and no overwriting."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, create_engine, event, exc, func, select
from sqlalchemy.orm import Session
from sqlalchemy.orm.exc import StaleDataError

from recipes.sqlalchemy.unit_of_work import Base, Line, Order, change, place


@pytest.fixture
def engine(database) -> Iterator[Engine]:
    """With empty tables."""
    engine = create_engine(database)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def number(engine) -> int:
    """Of an order that anna has placed."""
    with Session(engine) as session, session.begin():
        return place(session, "anna", {"bread": 1, "salt": 2})


@pytest.fixture
def statements(engine, number) -> list[str]:
    """The first words of what is sent from now on."""
    said = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(conn, cursor, statement, *_):
        said.append(" ".join(statement.split()[:3]))

    return said


def basket(engine, number) -> dict[str, int]:
    with Session(engine) as session:
        return {
            line.product: line.quantity for line in session.get_one(Order, number).lines
        }


def test_placed(engine, number):
    """The order is there with its lines, at version 1."""
    assert basket(engine, number) == {"bread": 1, "salt": 2}
    with Session(engine) as session:
        assert session.get_one(Order, number).version == 1


def test_parents_first(engine, statements):
    """The order is inserted first and its lines after it, though the lines were never
    added to the session."""
    with Session(engine) as session, session.begin():
        place(session, "ben", {"tea": 1, "salt": 1})
    inserts = [said for said in statements if said.startswith("INSERT")]
    assert inserts == ["INSERT INTO orders", "INSERT INTO order_line"]


def test_changed(engine, number):
    """The lines are those of the new basket: one added, one changed, one deleted."""
    with Session(engine) as session, session.begin():
        assert change(session, number, {"bread": 3, "tea": 1}, seen=1) == 2
    assert basket(engine, number) == {"bread": 3, "tea": 1}
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Line)) == 2


def test_only_what_changed(engine, number, statements):
    """A line that stays as it was is not written."""
    with Session(engine) as session, session.begin():
        change(session, number, {"bread": 1, "salt": 5}, seen=1)
    writes = [said for said in statements if not said.startswith("SELECT")]
    assert writes == ["UPDATE orders SET", "UPDATE order_line SET"]


def test_version_counts_lines(engine, number):
    """Each change is a new version, even when only a line was touched."""
    with Session(engine) as session, session.begin():
        change(session, number, {"bread": 2}, seen=1)
    with Session(engine) as session, session.begin():
        assert change(session, number, {"bread": 3}, seen=2) == 3


def test_nothing_until_the_commit(engine, number):
    """An error after a change undoes all of it."""
    with Session(engine) as session:
        change(session, number, {}, seen=1)
        session.rollback()
    assert basket(engine, number) == {"bread": 1, "salt": 2}


def test_old_screen(engine, number):
    """A change that is based on an old version is refused, and nothing is written."""
    with Session(engine) as session, session.begin():
        change(session, number, {"bread": 9}, seen=1)
    with Session(engine) as session, pytest.raises(StaleDataError, match="is at 2"):
        change(session, number, {}, seen=1)
    assert basket(engine, number) == {"bread": 9}


def test_at_the_same_time(engine, number):
    """Two have read version 1, and both change it: the later one is refused."""
    with Session(engine) as late:
        order = late.get_one(Order, number)
        assert (order.version, len(order.lines)) == (1, 2)
        with Session(engine) as early, early.begin():
            change(early, number, {"bread": 9}, seen=1)
        with pytest.raises(StaleDataError):
            change(late, number, {}, seen=1)
    assert basket(engine, number) == {"bread": 9}


def test_no_such_order(engine):
    """An unknown number is an error."""
    with Session(engine) as session, pytest.raises(exc.NoResultFound):
        change(session, 99, {}, seen=1)


def test_deleted_with_its_lines(engine, number):
    """The lines go with the order."""
    with Session(engine) as session, session.begin():
        session.delete(session.get_one(Order, number))
    with Session(engine) as session:
        assert session.scalar(select(func.count()).select_from(Line)) == 0


# --8<-- [start:wrong]
def place_as_often_copied(session, customer, basket):
    order = Order(customer=customer)
    session.add(order)
    session.commit()
    for product, quantity in basket.items():
        session.add(Line(order_id=order.id, product=product, quantity=quantity))
        session.commit()
    return order.id


# --8<-- [end:wrong]


def test_often_copied_half_an_order(engine):
    """Often copied: a line that is refused leaves an order with half of its lines."""
    with Session(engine) as session, pytest.raises(exc.IntegrityError):
        place_as_often_copied(session, "anna", {"bread": 1, "salt": None, "tea": 1})
    with Session(engine) as session:
        order = session.scalars(select(Order)).one()
        assert [line.product for line in order.lines] == ["bread"]


def test_the_recipe_leaves_nothing_of_it(engine):
    """The same basket with the recipe: no order at all."""
    with Session(engine) as session, pytest.raises(exc.IntegrityError):
        place(session, "anna", {"bread": 1, "salt": None, "tea": 1})
    with Session(engine) as session:
        assert session.scalars(select(Order)).all() == []


def test_often_copied_id_too_early(engine):
    """Often copied: before the flush the number of the order is None."""
    with Session(engine) as session:
        order = Order(customer="anna")
        session.add(order)
        assert order.id is None
