from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import uuid4

import pytest
from sqlalchemy import DateTime, Numeric, String, create_engine, func, select
from sqlalchemy.exc import IntegrityError, StatementError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from recipes.sqlalchemy.one_model_many_engines import Base, Payment, store

NOON = datetime(2026, 3, 1, 12, 0, 0, 123456, timezone(timedelta(hours=2)))


@pytest.fixture
def engine(database):
    engine = create_engine(database)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def payment(**changes):
    values = {"code": "a1", "amount": Decimal("0.10"), "paid_at": NOON}
    return Payment(**{**values, "order": uuid4(), **changes})


def read(engine, attribute):
    """The values of all payments, from the database, by id."""
    with Session(engine) as session:
        return list(session.scalars(select(attribute).order_by(Payment.id)))


@pytest.mark.parametrize("amount", ["0.10", "-0.01", "90071992547409.93", "5", "0"])
def test_money(engine, amount):
    """Money comes back to the cent, also an amount that a float cannot hold."""
    store(engine, payment(amount=Decimal(amount)))
    (found,) = read(engine, Payment.amount)
    assert isinstance(found, Decimal)
    assert (found, str(found)[-3]) == (Decimal(amount), ".")


def test_money_in_queries(engine):
    """Money is compared and sorted by the database."""
    for code, amount in (("a", "9.00"), ("b", "10.00"), ("c", "0.05")):
        store(engine, payment(code=code, amount=Decimal(amount)))
    with Session(engine) as session:
        query = select(Payment.code).where(Payment.amount > Decimal("1.50"))
        assert list(session.scalars(query.order_by(Payment.amount))) == ["a", "b"]
        assert session.scalar(select(func.max(Payment.amount))) == 10


def test_fraction_of_a_cent(engine):
    """A fraction of a cent is refused, not rounded."""
    with pytest.raises(StatementError, match="fraction of a cent"):
        store(engine, payment(amount=Decimal("0.105")))
    assert read(engine, Payment.id) == []


def test_moment(engine):
    """A moment comes back aware, in UTC, to the microsecond."""
    store(engine, payment())
    (found,) = read(engine, Payment.paid_at)
    assert found == NOON
    assert (found.tzinfo, found.hour, found.microsecond) == (UTC, 10, 123456)


def test_moment_in_queries(engine):
    """Moments in different zones are compared as moments."""
    store(engine, payment())
    a_little_later = (NOON + timedelta(microseconds=1)).astimezone(UTC)
    with Session(engine) as session:
        query = select(func.count()).select_from(Payment)
        assert session.scalar(query.where(Payment.paid_at == NOON.astimezone(UTC))) == 1
        assert session.scalar(query.where(Payment.paid_at < a_little_later)) == 1
        assert session.scalar(query.where(Payment.paid_at >= a_little_later)) == 0


def test_no_zone(engine):
    """A datetime without a zone is refused."""
    with pytest.raises(StatementError, match="no time zone"):
        store(engine, payment(paid_at=datetime(2026, 3, 1)))


def test_null(engine):
    """NULL stays None."""
    store(engine, payment(amount=None, paid_at=None))
    assert read(engine, Payment.amount) == read(engine, Payment.paid_at) == [None]


def test_capital_letters(engine):
    """Capital letters count: "a1" and "A1" are two codes, and each is found alone."""
    store(engine, payment(code="a1"))
    store(engine, payment(code="A1"))
    with Session(engine) as session:
        query = select(Payment.code).where(Payment.code == "A1")
        assert list(session.scalars(query)) == ["A1"]


def test_ids(engine):
    """The engine numbers the rows, and a number beyond 32 bits fits."""
    assert store(engine, payment()) == 1
    assert store(engine, payment(code="b", id=2**40)) == 2**40


def test_uuid(engine):
    """A UUID comes back as one."""
    order = uuid4()
    store(engine, payment(order=order))
    assert read(engine, Payment.order) == [order]


# --8<-- [start:wrong]
class WrongBase(DeclarativeBase): ...


class WrongPayment(WrongBase):
    __tablename__ = "payment"
    id: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str] = mapped_column(String(50), unique=True)
    amount: Mapped[Decimal] = mapped_column(Numeric(18, 2))
    paid_at: Mapped[datetime] = mapped_column(DateTime(timezone=True))


# --8<-- [end:wrong]


@pytest.fixture
def wrong(database):
    """The engine, with the tables of the often copied model."""
    engine = create_engine(database)
    WrongBase.metadata.create_all(engine)
    yield engine
    engine.dispose()


def store_wrong(engine, code="a1"):
    row = WrongPayment(code=code, amount=Decimal("900719925474099.93"), paid_at=NOON)
    with Session(engine) as session, session.begin():
        session.add(row)


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
def test_often_copied_changes_values(wrong):
    """Often copied: SQLite loses cents; SQLite, MySQL and MariaDB lose the zone, so
    that noon comes back as another moment; MySQL and MariaDB lose microseconds."""
    store_wrong(wrong)
    with Session(wrong) as session:
        found = session.scalars(select(WrongPayment)).one()
    name = wrong.dialect.name
    assert (found.amount == Decimal("900719925474099.93")) == (name != "sqlite")
    assert (found.paid_at.tzinfo is None) == (name != "postgresql")
    assert (found.paid_at.microsecond == 0) == (name == "mysql")


@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning")
def test_often_copied_codes(wrong):
    """Often copied: for MySQL and MariaDB "a1" and "A1" are one code, a duplicate."""
    store_wrong(wrong)
    if wrong.dialect.name == "mysql":
        with pytest.raises(IntegrityError):
            store_wrong(wrong, "A1")
    else:
        store_wrong(wrong, "A1")
