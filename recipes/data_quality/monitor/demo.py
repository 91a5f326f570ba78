"""A shop with planted defects: what `demo` checks, day by day."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from sqlalchemy import (
    Column,
    DateTime,
    Engine,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    insert,
)

NO_SERVER = (
    "Set DATABASE_URL, for example"
    " postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"
)
FIRST_DAY = datetime(2026, 1, 18, 6, tzinfo=UTC)  # a clock of its own: always the same
DAYS = 14
LAST_DAY = FIRST_DAY + timedelta(days=DAYS - 1)
CUSTOMERS, ORDERS = 12, 25  # that each day brings

metadata = MetaData()
customers = Table(
    "demo_customers",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("email", String(100)),
)
orders = Table(
    "demo_orders",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("customer_id", Integer, nullable=False),  # no foreign key: it could not rot
    Column("state", String(10), nullable=False),
    Column("placed_at", DateTime, nullable=False),  # UTC
    Column("paid_at", DateTime),
    Column("total", Numeric(12, 2), nullable=False),
)
order_lines = Table(
    "demo_order_lines",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("order_id", Integer, nullable=False),
    Column("sku", String(10), nullable=False),
    Column("quantity", Integer, nullable=False),
    Column("unit_price", Numeric(12, 2), nullable=False),
)


def days(engine: Engine) -> Iterator[datetime]:
    """Make the tables anew; then bring one day's rows, and yield its time, in turn."""
    with engine.begin() as conn:
        metadata.drop_all(conn)
        metadata.create_all(conn)
    for day in range(DAYS):
        now = FIRST_DAY + timedelta(days=day)
        rows = [_order(day, n, now) for n in range(ORDERS)]
        lines = [_line(order["id"], k) for order in rows for k in range(2)]
        with engine.begin() as conn:
            new = [_customer(day, n) for n in range(CUSTOMERS)]
            conn.execute(insert(customers), new)
            conn.execute(insert(orders), rows)
            conn.execute(insert(order_lines), lines)
        yield now


def _customer(day: int, n: int) -> dict[str, object]:
    number = day * CUSTOMERS + n
    email: str | None = f"customer{number}@example.com"
    if day > 6 and n == 5:
        email = None  # a form lost its check
    if day == 12 and n in (1, 2):
        email = f"ask at counter {n}"
    if day == 13 and n == 0:
        email = "customer3@example.com"
    return {"id": number, "email": email}


def _order(day: int, n: int, now: datetime) -> dict[str, object]:
    number = day * ORDERS + n
    placed = now.replace(tzinfo=None) - timedelta(hours=2, minutes=40 * n)
    state = ("sent", "paid", "sent", "open", "sent")[n % 5]
    total = sum((_price(number, k) * (k + 1) for k in range(2)), Decimal(0))
    if day > 9 and n == 7:
        number_of_customer = 9000 + day  # was merged with another, and deleted
    else:
        number_of_customer = (number * 7) % ((day + 1) * CUSTOMERS)
    if day == 13 and n in (4, 9):
        total -= Decimal("5.00")  # a discount that no line tells of
    return {
        "id": number,
        "customer_id": number_of_customer,
        "state": state,
        "placed_at": placed,
        "paid_at": None if state == "open" else placed,
        "total": total,
    }


def _line(order: object, k: int) -> dict[str, object]:
    assert isinstance(order, int)
    price = _price(order, k)
    return {"order_id": order, "sku": f"S{k}", "quantity": k + 1, "unit_price": price}


def _price(order: int, k: int) -> Decimal:
    return Decimal(999 + 130 * k + order % 40) / 100
