import tracemalloc

import pytest
import sqlalchemy
from sqlalchemy import create_engine, event, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from recipes.sqlalchemy.bulk_insert import Base, Customer, insert_objects, insert_rows


@pytest.fixture
def engine(database):
    engine = create_engine(database)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def sent(engine):
    """The INSERT statements that go to the driver, as they go."""
    statements = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(conn, cursor, statement, *_):
        if statement.startswith("INSERT"):
            statements.append(statement)

    return statements


def customer(number, **more):
    return {"email": f"c{number}@example.com", **more}


def insert(engine, rows, **how):
    with Session(engine) as session, session.begin():
        return insert_rows(session, Customer, rows, **how)


def count(engine):
    with Session(engine) as session:
        return session.scalar(select(func.count()).select_from(Customer))


@pytest.mark.parametrize("number", [0, 1, 9, 10, 11, 25])
def test_every_row_comes(engine, number):
    """Every row comes, also where they do not fill the last batch, or are none."""
    rows = (customer(n, phone=str(n)) for n in range(number))
    assert insert(engine, rows, batch=10) == number
    with Session(engine) as session:
        found = session.execute(select(Customer.email, Customer.phone))
        assert set(found) == {(f"c{n}@example.com", str(n)) for n in range(number)}


def test_one_statement_for_each_batch(engine, sent):
    """2,500 rows are three statements for the driver, in batches of 1,000."""
    assert insert(engine, (customer(n) for n in range(2500))) == 2500
    assert len(sent) == 3


def test_none_does_not_split_the_batch(engine, sent):
    """Rows with None and rows with a value go in the same statement, and None is
    NULL."""
    insert(engine, [customer(n, phone=None if n % 2 else "1") for n in range(100)])
    assert len(sent) == 1
    with Session(engine) as session:
        query = select(func.count()).where(Customer.phone.is_(None))
        assert session.scalar(query) == 50


def test_defaults(engine):
    """A name that no row has gets the default, that of the model or of the server."""
    insert(engine, [customer(1)])
    with Session(engine) as session:
        row = session.scalars(select(Customer)).one()
        assert (row.language, row.level, row.phone) == ("en", 1, None)


@pytest.mark.parametrize(
    "rows",
    [
        [customer(1), customer(2, phone="1")],
        [customer(1, phone="1"), customer(2)],
        [customer(n) for n in range(10)] + [customer(10, phone="1")],  # second batch
    ],
)
def test_rows_of_another_shape(engine, rows):
    """A row with other names than the first is refused, and nothing is inserted."""
    with pytest.raises(ValueError, match="not the names of the first row"):
        insert(engine, rows, batch=10)
    assert count(engine) == 0


def test_unknown_name(engine):
    """A name that the model lacks is refused: SQLAlchemy would drop its values."""
    with pytest.raises(ValueError, match=r"Customer has no \['fone'\]"):
        insert(engine, [customer(1, fone="1")])
    assert count(engine) == 0


def test_one_bad_row(engine):
    """A row that the database refuses takes all with it, those of earlier batches
    too."""
    rows = [customer(n) for n in [*range(15), 3]]
    with pytest.raises(IntegrityError):
        insert(engine, rows, batch=10)
    assert count(engine) == 0


def test_no_batch(engine):
    """A batch of nothing is a mistake of the caller's, not an insert of nothing."""
    with pytest.raises(ValueError, match="1 or more"):
        insert(engine, [customer(1)], batch=0)


def test_memory(sqlite):
    """Twenty times the rows take no more memory: one batch is held."""
    engine = create_engine(f"sqlite:///{sqlite}")
    Base.metadata.create_all(engine)
    peaks = []
    for start, rows in ((0, 1000), (1000, 1000), (2000, 20_000)):
        tracemalloc.start()
        insert(engine, (customer(start + n) for n in range(rows)))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    engine.dispose()
    assert peaks[2] < 2 * peaks[1]


def test_ids(engine, sent):
    """Objects get their ids, in their order: a thousand for each statement on
    PostgreSQL and MariaDB; a statement for each row on SQLite and MySQL."""
    customers = [Customer(**customer(n)) for n in range(2500)]
    with Session(engine) as session, session.begin():
        ids = insert_objects(session, customers)
    with Session(engine) as session:
        found = dict(session.execute(select(Customer.id, Customer.email)).all())
    assert [found[number] for number in ids] == [
        f"c{n}@example.com" for n in range(2500)
    ]
    dialect = engine.dialect
    in_batches = dialect.insert_returning and dialect.name != "sqlite"
    assert len(sent) == (3 if in_batches else 2500)


# --8<-- [start:wrong]
def insert_as_often_copied(session, rows):
    customers = [Customer(**row) for row in rows]
    session.bulk_save_objects(customers)
    session.commit()
    return [customer.id for customer in customers]


# --8<-- [end:wrong]


def test_often_copied_has_no_ids(engine):
    """Often copied: bulk_save_objects inserts the rows, and leaves every id None."""
    with Session(engine) as session:
        ids = insert_as_often_copied(session, [customer(n) for n in range(3)])
    assert ids == [None, None, None]
    assert count(engine) == 3


def test_often_copied_is_slow(engine, sent):
    """Often copied: with a None in every other row it sends a statement for each."""
    rows = [customer(n, phone=None if n % 2 else "1") for n in range(100)]
    with Session(engine) as session:
        insert_as_often_copied(session, rows)
    assert len(sent) == 100


def test_often_copied_bare_insert(engine, sent):
    """Often copied: a bare insert() with a list does the same, and drops the values
    of a name that the model lacks without a word."""
    rows = [customer(n, phone=None if n % 2 else "1", fone="1") for n in range(100)]
    with Session(engine) as session, session.begin():
        session.execute(sqlalchemy.insert(Customer), rows)
    assert len(sent) == 100
    assert count(engine) == 100
