"""declare_models: the tables keep the rules, whoever writes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine, exc, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from recipes.sqlalchemy.declare_models import (
    Base,
    Customer,
    Order,
    UtcDateTime,
    open_engine,
)


@pytest.fixture
def engine(database) -> Iterator[Engine]:
    """With empty tables."""
    engine = open_engine(database)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


@pytest.fixture
def other(engine) -> Iterator[sa.Connection]:
    """Another program: it knows the tables, and no model."""
    with engine.connect() as conn:
        conn.execute(text("INSERT INTO customer (id, email) VALUES (1, 'a@b.example')"))
        conn.commit()
        yield conn


def refused(conn, statement) -> None:
    with pytest.raises((exc.IntegrityError, exc.OperationalError)):
        conn.execute(text(statement))
    conn.rollback()


def test_defaults_for_everybody(engine, other):
    """A row of another program gets its defaults from the table."""
    other.execute(text("INSERT INTO orders (customer_id) VALUES (1)"))
    other.commit()
    with Session(engine) as session:
        order = session.scalars(sa.select(Order)).one()
        assert (order.quantity, order.note, order.changed_at) == (1, None, None)
        assert abs(datetime.now(UTC) - order.made_at) < timedelta(minutes=1)


def test_default_is_utc_in_any_session(engine, other):
    """The time of a row is UTC, whatever the time zone of the session is."""
    zone = {"postgresql": "SET TIME ZONE '+05:00'", "mysql": "SET time_zone = '+05:00'"}
    if statement := zone.get(engine.dialect.name):
        other.execute(text(statement))
    other.execute(text("INSERT INTO orders (customer_id) VALUES (1)"))
    made_at = other.execute(sa.select(Order.made_at)).scalar_one()
    assert made_at.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - made_at) < timedelta(minutes=1)


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("INSERT INTO customer (email) VALUES ('a@b.example')", id="uq"),
        pytest.param("INSERT INTO customer (email) VALUES (NULL)", id="null"),
        pytest.param("INSERT INTO orders (customer_id) VALUES (9)", id="fk"),
        pytest.param("UPDATE customer SET id = NULL", id="pk"),
        pytest.param(
            "INSERT INTO orders (customer_id, quantity) VALUES (1, 0)", id="check"
        ),
    ],
)
def test_rules_for_everybody(other, statement):
    """The table refuses another program too: a second row with the same address, a
    missing address, an unknown customer, a quantity of zero."""
    refused(other, statement)


def test_customer_with_orders_stays(engine):
    """A customer with orders cannot be deleted; nothing is set to NULL."""
    with Session(engine) as session:
        customer = Customer(email="anna@example.com", orders=[Order(), Order()])
        session.add(customer)
        session.commit()
        session.delete(customer)
        with pytest.raises(exc.IntegrityError) as raised:
            session.flush()
    assert raised.value.statement.startswith("DELETE FROM customer")


def test_changed(engine):
    """`changed_at` is empty at first, and set when a model is changed."""
    with Session(engine) as session:
        customer = Customer(email="anna@example.com")
        session.add(customer)
        session.commit()
        assert customer.changed_at is None
        customer.email = "ben@example.com"
        session.commit()
        assert abs(datetime.now(UTC) - customer.changed_at) < timedelta(minutes=1)


def test_time_zones_arrive(engine):
    """A time in any zone comes back as the same moment, aware, to the microsecond."""
    moment = datetime(2026, 3, 29, 2, 30, 0, 123456, timezone(timedelta(hours=-7)))
    with Session(engine) as session:
        session.add(Customer(email="anna@example.com", made_at=moment))
        session.commit()
    with Session(engine) as session:
        read = session.scalars(sa.select(Customer.made_at)).one()
    assert read == moment
    assert read.tzinfo is UTC


def test_naive_time_is_refused(engine):
    """A time without a zone is refused before it reaches the database."""
    with Session(engine) as session:
        session.add(Customer(email="a", made_at=datetime(2026, 1, 1)))
        with pytest.raises(exc.StatementError, match="no time zone") as raised:
            session.flush()
        assert isinstance(raised.value.orig, ValueError)


def test_names(engine):
    """Each key, check and index has a name that is made of its table and column."""
    inspector = sa.inspect(engine)
    assert inspector.get_foreign_keys("orders")[0]["name"] == "fk_orders_customer_id"
    assert inspector.get_check_constraints("orders")[0]["name"] == "ck_orders_quantity"
    names = {index["name"] for index in inspector.get_indexes("orders")}
    assert "ix_orders_customer_id" in names
    unique = inspector.get_unique_constraints("customer")[0]["name"]
    assert unique == "uq_customer_email"
    if engine.dialect.name != "mysql":  # there it is always PRIMARY
        assert inspector.get_pk_constraint("orders")["name"] == "pk_orders"


def test_lengths(engine):
    """An annotated type is the same column in every model: 100 characters at most."""
    columns = sa.inspect(engine).get_columns("customer")
    email = next(column for column in columns if column["name"] == "email")
    assert email["type"].length == 100
    assert Order.__table__.c.note.type.length == 100
    assert Order.__table__.c.note.nullable


def test_nothing_to_read():
    """An empty time stays empty."""
    kind = UtcDateTime()
    assert kind.process_bind_param(None, None) is None
    assert kind.process_result_value(None, None) is None


# --8<-- [start:wrong]
class CopiedBase(DeclarativeBase):
    pass


class CopiedUser(CopiedBase):
    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(sa.String(100), unique=True)
    made_at: Mapped[datetime] = mapped_column(default=datetime.now())


# --8<-- [end:wrong]


@pytest.fixture
def copied(database) -> Iterator[Engine]:
    engine = sa.create_engine(database)
    CopiedBase.metadata.create_all(engine)
    yield engine
    engine.dispose()


def test_often_copied_one_time_for_all(copied):
    """Often copied: every row gets the time at which the program started, without a
    time zone."""
    with Session(copied) as session:
        session.add(CopiedUser(email="a"))
        session.commit()
        session.add(CopiedUser(email="b"))
        session.commit()
        times = set(session.scalars(sa.select(CopiedUser.made_at)))
    assert len(times) == 1
    assert times.pop().tzinfo is None


def test_often_copied_no_default_in_the_table(copied):
    """Often copied: another program cannot insert; the default is in Python alone."""
    with copied.connect() as conn:
        refused(conn, "INSERT INTO users (email) VALUES ('a')")


def test_often_copied_names(copied):
    """Often copied: the unique constraint has no name on SQLite, and another name on
    each server."""
    unique = sa.inspect(copied).get_unique_constraints("users")[0]["name"]
    names = {"sqlite": None, "postgresql": "users_email_key", "mysql": "email"}
    assert unique == names[copied.dialect.name]


def test_often_copied_foreign_keys_on_sqlite(tmp_path):
    """Often copied: SQLite without its PRAGMA takes an order of nobody."""
    engine = sa.create_engine(f"sqlite:///{tmp_path}/app.db")
    Base.metadata.create_all(engine)
    with engine.begin() as conn:
        conn.execute(text("INSERT INTO orders (customer_id) VALUES (9)"))
    engine.dispose()
