import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import String, create_engine, create_mock_engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from recipes.sqlalchemy.upsert import Base, Product, upsert

TEA = {"sku": "T1", "name": "tea", "stock": 5}
CUP = {"sku": "C1", "name": "cup", "stock": 8}
WAY = {"key": ["sku"], "update": ["stock"]}


@pytest.fixture
def engine(database):
    engine = create_engine(database)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def products(engine):
    with Session(engine) as session:
        query = select(Product.sku, Product.name, Product.stock).order_by(Product.sku)
        return [tuple(row) for row in session.execute(query)]


def test_inserts_and_updates(engine):
    """New rows are inserted; of those that are there, the named columns change, and no
    others."""
    for rows in ([TEA], [{**TEA, "name": "other", "stock": 7}, CUP]):
        with Session(engine) as session, session.begin():
            upsert(session, Product, rows, **WAY)
    assert products(engine) == [("C1", "cup", 8), ("T1", "tea", 7)]


def test_each_row_has_its_own_value(engine):
    """Of many rows, each gets the value that came with it."""
    rows = [{"sku": f"S{n:04}", "name": "x", "stock": n} for n in range(1500)]
    for add in (0, 1):
        with Session(engine) as session, session.begin():
            new = [{**row, "stock": row["stock"] + add} for row in rows]
            upsert(session, Product, new, **WAY)
    assert [stock for *_, stock in products(engine)] == list(range(1, 1501))


def test_at_the_same_time(engine):
    """Two threads that upsert the same new row at the same moment both succeed."""
    meet = threading.Barrier(2)

    def run(stock):
        with Session(engine) as session, session.begin():
            meet.wait(10)
            upsert(session, Product, [{**TEA, "stock": stock}], **WAY)

    with ThreadPoolExecutor() as pool:
        list(pool.map(run, (1, 2)))
    assert products(engine) in ([("T1", "tea", 1)], [("T1", "tea", 2)])


def test_rolls_back(engine):
    """It belongs to the transaction of the session."""
    with Session(engine) as session:
        upsert(session, Product, [TEA], **WAY)
        session.rollback()
    assert products(engine) == []


def test_objects_in_memory(engine):
    """An object that the session has loaded shows the new value."""
    with Session(engine) as session, session.begin():
        upsert(session, Product, [TEA], **WAY)
        tea = session.get_one(Product, "T1")
        upsert(session, Product, [{**TEA, "stock": 9}], **WAY)
        assert tea.stock == 9


def test_changes_in_memory(engine):
    """A change of an object that was not yet sent is kept."""
    with Session(engine) as session, session.begin():
        upsert(session, Product, [TEA], **WAY)
        tea = session.get_one(Product, "T1")
        tea.name = "green tea"
        upsert(session, Product, [{**TEA, "stock": 9}], **WAY)
    assert products(engine) == [("T1", "green tea", 9)]


def test_no_rows(engine):
    """No rows: nothing happens."""
    with Session(engine) as session, session.begin():
        upsert(session, Product, [], **WAY)
    assert products(engine) == []


def test_other_engine():
    """For an engine without such a statement it says so."""
    oracle = create_mock_engine("mssql+pyodbc://", lambda *_: None)
    with pytest.raises(ValueError, match="no upsert for mssql"):
        upsert(Session(oracle), Product, [TEA], **WAY)


class Other(DeclarativeBase): ...


class Member(Other):
    __tablename__ = "member"
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    email: Mapped[str] = mapped_column(String(50), unique=True)
    name: Mapped[str] = mapped_column(String(50))


def test_second_unique_column(engine):
    """A row that collides in another unique column is refused; MySQL and MariaDB
    overwrite the row of somebody else."""
    Other.metadata.create_all(engine)
    ann = {"number": 1, "email": "ann@example.com", "name": "Ann"}
    bob = {"number": 2, "email": "ann@example.com", "name": "Bob"}
    way = {"key": ["number"], "update": ["name"]}
    with Session(engine) as session, session.begin():
        upsert(session, Member, [ann], **way)
    with Session(engine) as session:
        if engine.dialect.name == "mysql":
            upsert(session, Member, [bob], **way)
            assert session.get_one(Member, 1).name == "Bob"
        else:
            with pytest.raises(IntegrityError):
                upsert(session, Member, [bob], **way)


# --8<-- [start:wrong]
def upsert_as_often_copied(session, sku, name, stock):
    product = session.get(Product, sku)
    if product:
        product.stock = stock
    else:
        session.add(Product(sku=sku, name=name, stock=stock))
    session.commit()


# --8<-- [end:wrong]


def test_often_copied_looks_first(engine):
    """Often copied: somebody inserts the row after the look, and an IntegrityError ends
    the transaction."""

    class OtherIsFaster(Session):
        def get(self, *args):
            found = super().get(*args)
            self.rollback()  # end the reading, or SQLite might not let the other write
            with Session(engine) as other, other.begin():
                other.add(Product(**TEA))
            return found

    with OtherIsFaster(engine) as session, pytest.raises(IntegrityError):
        upsert_as_often_copied(session, "T1", "tea", 1)


def test_often_copied_merge(engine):
    """Often copied: session.merge() asks and then inserts too, one row at a time."""
    with Session(engine) as session:
        merged = session.merge(Product(**TEA))
        with Session(engine) as other, other.begin():
            other.add(Product(**TEA))
        assert merged in session.new
        with pytest.raises(IntegrityError):
            session.commit()
