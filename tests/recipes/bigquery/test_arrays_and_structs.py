"""arrays_and_structs: lines inside their order, and money counted once."""

from decimal import Decimal

import pytest
from sqlalchemy import Column, MetaData, Table
from sqlalchemy.schema import CreateTable
from sqlalchemy_bigquery import STRUCT, BigQueryDialect

from recipes.bigquery.arrays_and_structs import (
    SCHEMA,
    Line,
    buyers,
    flat,
    orders_with,
    run,
    save,
    total,
)

SALT = Line("salt", 2, Decimal("0.50"))
OIL = Line("oil", 1, Decimal("9.90"))


@pytest.fixture
def orders(client):
    """An empty table for orders."""
    run(client, SCHEMA)
    return client


@pytest.fixture
def three(orders):
    """Order 1 has three lines, order 2 one, order 3 none. The shipping is 4 each."""
    save(orders, 1, Decimal(4), [SALT, OIL, SALT])
    save(orders, 2, Decimal(4), [OIL])
    save(orders, 3, Decimal(4), [])
    return orders


def test_lines_come_back_as_they_were(orders, sql):
    """Lines come back in their order, as dictionaries, with exact prices."""
    save(orders, 1, Decimal(4), [OIL, SALT])
    ((lines,),) = sql("SELECT lines FROM orders")
    assert lines == [OIL._asdict(), SALT._asdict()]


def test_one_statement_writes_order_and_lines(recorded, recorder):
    """The order and its lines are one statement, so neither is there alone."""
    run(recorded, SCHEMA)
    before = len(recorder.sent("POST", "/jobs"))
    save(recorded, 1, Decimal(4), [OIL, SALT])
    assert len(recorder.sent("POST", "/jobs")) == before + 1


def test_hostile_text_is_a_value(orders):
    """Text that tries to be SQL is a value, inside an array of structs too."""
    hostile = "x'), ('y'; DROP TABLE orders; --"
    save(orders, 1, Decimal(4), [Line(hostile, 1, Decimal(1))])
    assert orders_with(orders, hostile) == [1]


def test_total_counts_shipping_once(three):
    """The total holds each shipping once, also that of the order without lines."""
    assert total(three) == 3 * 4 + Decimal("1.00") * 2 + Decimal("9.90") * 2


def test_no_orders(orders):
    """Without orders the total is 0."""
    assert total(orders) == 0


def test_each_order_once(three):
    """An order with two lines of an article is found once."""
    assert orders_with(three, "salt") == [1]
    assert orders_with(three, "oil") == [1, 2]
    assert orders_with(three, "sugar") == []


def test_flat_keeps_orders_without_lines(three):
    """Flattened, each line has its place, and an order without lines is still there."""
    assert flat(three) == [
        (1, 0, "salt"),
        (1, 1, "oil"),
        (1, 2, "salt"),
        (2, 0, "oil"),
        (3, None, None),
    ]


def test_rows_become_arrays(three):
    """`ARRAY_AGG` makes sorted arrays of structs from rows."""
    assert buyers(three) == {
        "oil": [{"id": 1, "quantity": 1}, {"id": 2, "quantity": 1}],
        "salt": [{"id": 1, "quantity": 2}, {"id": 1, "quantity": 2}],
    }


# --8<-- [start:wrong]
TOTAL_AS_OFTEN_COPIED = """
SELECT SUM(shipping) + SUM(l.quantity * l.price)
FROM orders, UNNEST(lines) AS l
"""
# --8<-- [end:wrong]


def test_often_copied_counts_twice_and_forgets(three, sql):
    """Often copied: shipping is counted once a line, and the order without lines is
    gone: 16 in place of 12."""
    ((value,),) = sql(TOTAL_AS_OFTEN_COPIED)
    lines = Decimal("1.00") * 2 + Decimal("9.90") * 2
    assert value - lines == 16


# --8<-- [start:wrong_struct]
event = Table("event", MetaData(), Column("payload", STRUCT()))
# --8<-- [end:wrong_struct]


def test_often_copied_struct_without_fields():
    """Often copied, with SQLAlchemy: a struct without fields becomes `STRUCT<>`."""
    ddl = str(CreateTable(event).compile(dialect=BigQueryDialect()))
    assert "STRUCT<>" in ddl
