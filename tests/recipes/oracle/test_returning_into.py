"""returning_into: the server's own values, from the statement itself."""

from decimal import Decimal

import oracledb
import pytest

from recipes.oracle.returning_into import SCHEMA, add_order, add_orders, ship


@pytest.fixture
def shop(conn):
    """A connection to a schema without orders."""
    with conn.cursor() as cursor:
        cursor.execute(SCHEMA)
    return conn


def customers(conn) -> dict[int, str]:
    with conn.cursor() as cursor:
        cursor.execute("SELECT id, customer FROM orders")
        return dict(cursor.fetchall())


def test_number_of_the_row(shop):
    """The number is that of the row."""
    number = add_order(shop, "Ann", Decimal(1))
    assert customers(shop) == {number: "Ann"}


def test_numbers_in_order(shop):
    """A thousand rows in one go: each number belongs to its row."""
    rows = [(f"customer {n}", Decimal(n)) for n in range(1000)]
    numbers = add_orders(shop, rows)
    assert len(set(numbers)) == 1000
    stored = customers(shop)
    assert [stored[number] for number in numbers] == [customer for customer, _ in rows]


def test_no_rows(shop):
    """No rows, no numbers."""
    assert add_orders(shop, []) == []


def test_touched_rows(shop):
    """An UPDATE gives the rows that it touched, amounts exact, and no others."""
    first = add_order(shop, "Ann", Decimal("19.99"))
    add_order(shop, "Ben", Decimal(5))
    last = add_order(shop, "Ann", Decimal("0.10"))
    wanted = [(first, Decimal("19.99")), (last, Decimal("0.10"))]
    assert sorted(ship(shop, "Ann")) == wanted


def test_touched_once(shop):
    """A second call finds nothing to ship: an empty list."""
    add_order(shop, "Ann", Decimal(1))
    assert len(ship(shop, "Ann")) == 1
    assert ship(shop, "Ann") == []


def test_failed_insert(shop):
    """A row that is refused is an error, and leaves no number behind."""
    with pytest.raises(oracledb.IntegrityError):
        add_order(shop, "", Decimal(1))
    assert customers(shop) == {}


def test_nothing_is_committed(shop):
    """After a rollback the rows are gone; their numbers are not given out again."""
    number = add_order(shop, "Ann", Decimal(1))
    shop.rollback()
    assert customers(shop) == {}
    assert add_order(shop, "Ann", Decimal(1)) > number


# --8<-- [start:wrong]
def add_order_as_copied(conn, customer, amount):
    cursor = conn.cursor()
    cursor.execute(
        "INSERT INTO orders (customer, amount) VALUES (:1, :2)", [customer, amount]
    )
    conn.commit()
    cursor.execute("SELECT MAX(id) FROM orders")
    return cursor.fetchone()[0]


# --8<-- [end:wrong]


class Meddling(oracledb.Connection):
    """A connection after whose commit another session inserts."""

    meddle = None

    def commit(self):
        super().commit()
        self.meddle()


def test_often_copied_takes_the_number_of_another(shop, oracle):
    """Often copied: another order comes between. Ann gets the number of Ben's."""

    def ben_orders() -> None:
        add_order(shop, "Ben", Decimal(5))
        shop.commit()

    with oracledb.connect(oracle, conn_class=Meddling) as conn:
        conn.meddle = ben_orders
        number = add_order_as_copied(conn, "Ann", Decimal(1))
    assert customers(shop)[number] == "Ben"
