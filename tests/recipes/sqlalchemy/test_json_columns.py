from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import JSON, create_engine, select, text
from sqlalchemy.exc import NoResultFound
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from recipes.sqlalchemy.json_columns import Base, Event, dearer_than, move


@pytest.fixture
def engine(database):
    """Event 1: Bern, 9. Event 2: Bern, 100."""
    engine = create_engine(database)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        for number, price in ((1, 9), (2, 100)):
            data = {"place": {"city": "Bern"}, "price": price}
            session.add(Event(id=number, data=data))
    yield engine
    engine.dispose()


def data_of(engine, number=1):
    with Session(engine) as session:
        return session.get_one(Event, number).data


@pytest.mark.parametrize(("price", "found"), [(8, [1, 2]), (20, [2]), (100, [])])
def test_compares_numbers(engine, price, found):
    """Numbers in the document are compared as numbers: 9 is less than 20."""
    with Session(engine) as session:
        assert dearer_than(session, "Bern", price) == found
        assert dearer_than(session, "Basel", price) == []


def test_missing_key(engine):
    """A document without the key is not found, and is no error."""
    with Session(engine) as session, session.begin():
        session.add_all([Event(id=3, data={"price": 500}), Event(id=4, data={})])
        assert dearer_than(session, "Bern", 20) == [2]


def test_value_is_a_parameter(engine):
    """A hostile city is a city that does not exist."""
    with Session(engine) as session:
        assert dearer_than(session, "' OR '1'='1", 0) == []


def test_first_level_is_noticed(engine):
    """A change at the first level of the document is stored."""
    with Session(engine) as session, session.begin():
        event = session.get_one(Event, 1)
        event.data["price"] = 10
    assert data_of(engine) == {"place": {"city": "Bern"}, "price": 10}


def test_move(engine):
    """The change of one value keeps the others."""
    move(engine, 1, "Basel")
    assert data_of(engine) == {"place": {"city": "Basel"}, "price": 9}


def test_move_without_data(engine):
    """An event that has no document yet gets one."""
    with Session(engine) as session, session.begin():
        session.add(Event(id=3, data=None))
    move(engine, 3, "Basel")
    assert data_of(engine, 3) == {"place": {"city": "Basel"}}


def test_move_nothing(engine):
    """An unknown event is an error."""
    with pytest.raises(NoResultFound):
        move(engine, 9, "Basel")


def test_none_is_null(engine):
    """None is stored as NULL, so `IS NULL` finds it."""
    with Session(engine) as session, session.begin():
        session.add(Event(id=3, data=None))
        session.flush()
        found = session.scalars(select(Event.id).where(Event.data.is_(None)))
        assert list(found) == [3]


def test_text_survives(engine):
    """Text in any script, quotes and all, comes back as it was, and is found."""
    city = """Zürich "東京" 'x' \\ %"""
    move(engine, 1, city)
    with Session(engine) as session:
        assert data_of(engine)["place"]["city"] == city
        assert dearer_than(session, city, 0) == [1]


# --8<-- [start:wrong]
class WrongBase(DeclarativeBase): ...


class WrongEvent(WrongBase):
    __tablename__ = "event"
    id: Mapped[int] = mapped_column(primary_key=True)
    data: Mapped[dict | None] = mapped_column(JSON)


def move_as_often_copied(session, number, city):
    event = session.get(WrongEvent, number)
    event.data["place"]["city"] = city
    session.commit()


# --8<-- [end:wrong]


def test_often_copied_forgets_the_change(engine):
    """Often copied: the change inside the document is not stored, without an error."""
    with Session(engine) as session:
        move_as_often_copied(session, 1, "Basel")
    assert data_of(engine)["place"]["city"] == "Bern"


def test_often_copied_none(engine):
    """Often copied: None is stored as the JSON value null, and `IS NULL` misses it."""
    with Session(engine) as session, session.begin():
        session.add(WrongEvent(id=3, data=None))
        session.flush()
        assert (
            session.execute(text("SELECT 1 FROM event WHERE data IS NULL")).all() == []
        )


def test_mutable_dict_knows_one_level(engine):
    """Even with MutableDict a change below the first level is lost."""
    with Session(engine) as session, session.begin():
        event = session.get_one(Event, 1)
        event.data["place"]["city"] = "Basel"
    assert data_of(engine)["place"]["city"] == "Bern"


def test_object_must_live(engine):
    """A change is lost when nobody holds the object any more: keep it in a variable."""
    with Session(engine) as session, session.begin():
        session.get_one(Event, 1).data["price"] = 10
    assert data_of(engine)["price"] == 9


def test_two_changes_at_once(postgresql):
    """With the lock, a change that another one makes at that moment is kept."""
    engine = create_engine(postgresql.replace("postgresql:", "postgresql+psycopg:", 1))
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Event(id=1, data={"price": 9}))
    with (
        ThreadPoolExecutor() as pool,
        Session(engine) as session,
        engine.connect() as watch,
    ):
        first = session.get_one(Event, 1, with_for_update=True)
        first.data["price"] = 10
        session.flush()
        second = pool.submit(move, engine, 1, "Basel")
        waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        while not second.done() and not watch.scalar(waiting):
            watch.rollback()
        session.commit()
        second.result(10)
    assert data_of(engine) == {"price": 10, "place": {"city": "Basel"}}
    engine.dispose()
