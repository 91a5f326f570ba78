"""explain_plan: what is expected, and what happened."""

import pytest

from recipes.oracle.explain_plan import TABLE, Step, counted, explain, measure

QUERY = "SELECT id FROM orders WHERE customer = 7"


@pytest.fixture
def shop(conn):
    """A connection to a schema with 5000 orders of 500 customers, and statistics."""
    with conn.cursor() as cursor:
        cursor.execute(TABLE)
        rows = [(n, n // 10) for n in range(5_000)]
        cursor.executemany("INSERT INTO orders (id, customer) VALUES (:1, :2)", rows)
        cursor.callproc("dbms_stats.gather_table_stats", [None, "ORDERS"])
    return conn


@pytest.fixture
def indexed(shop):
    """The same, with an index on the customer."""
    with shop.cursor() as cursor:
        cursor.execute("CREATE INDEX orders_customer ON orders (customer)")
    return shop


def test_without_an_index(shop):
    """Without an index the whole table is read."""
    steps = explain(shop, QUERY)
    assert [step.operation for step in steps] == [
        "SELECT STATEMENT",
        "TABLE ACCESS FULL",
    ]
    assert steps[1].name == "ORDERS"


def test_with_an_index(indexed):
    """With an index on the customer, that index is read, and ten rows are expected."""
    assert explain(indexed, QUERY)[-1] == Step(
        "INDEX RANGE SCAN", "ORDERS_CUSTOMER", 10
    )


def test_a_function_hides_the_index(indexed):
    """A function around the column: the index is not read."""
    query = "SELECT id FROM orders WHERE TO_CHAR(customer) = '7'"
    assert [step.operation for step in explain(indexed, query)] == [
        "SELECT STATEMENT",
        "TABLE ACCESS FULL",
    ]


def test_nothing_is_left(indexed):
    """The plan table is empty again, and the caller's transaction is as it was."""
    with indexed.cursor() as cursor:
        cursor.execute("INSERT INTO orders (id, customer) VALUES (-1, -1)")
        explain(indexed, QUERY)
        cursor.execute("SELECT COUNT(*) FROM plan_table")
        assert cursor.fetchone() == (0,)
        cursor.execute("SELECT COUNT(*) FROM orders WHERE id = -1")
        assert cursor.fetchone() == (1,)


def test_nothing_is_run(shop):
    """A DELETE is explained, and deletes nothing."""
    assert explain(shop, "DELETE FROM orders")[0].operation == "DELETE STATEMENT"
    with shop.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM orders")
        assert cursor.fetchone() == (5_000,)


def test_real_rows(indexed):
    """The plan that ran says which index it read, and how many rows came."""
    text = measure(indexed, "SELECT id FROM orders WHERE customer = :c", c=7)
    (line,) = [line for line in text.splitlines() if "INDEX RANGE SCAN" in line]
    assert "ORDERS_CUSTOMER" in line
    columns = [column.strip() for column in line.split("|")]
    header = next(line for line in text.splitlines() if "A-Rows" in line)
    place = [column.strip() for column in header.split("|")].index("A-Rows")
    assert columns[place] == "10"


# Without a server.


@pytest.mark.parametrize("query", ["SELECT 1 FROM dual", "\n  select 1 from dual"])
def test_asks_for_counts(query):
    """The request for real rows goes behind the first SELECT, in any case."""
    assert (
        counted(query)
        == "SELECT /*+ GATHER_PLAN_STATISTICS */ " + query.split(None, 1)[1]
    )


def test_asks_once():
    """A SELECT inside the query is left alone."""
    assert counted("SELECT (SELECT 1 FROM dual) FROM dual").count("/*+") == 1


@pytest.mark.parametrize("query", ["DELETE FROM orders", "WITH x AS", "SELECTED", ""])
def test_measures_only_queries(query):
    """Anything but a SELECT is a ValueError: it would be run."""
    with pytest.raises(ValueError, match="SELECT"):
        counted(query)


# --8<-- [start:wrong]
def find_as_copied(conn, customer):
    with conn.cursor() as cursor:
        cursor.execute("SELECT id FROM orders WHERE TO_CHAR(customer) = :1", [customer])
        return cursor.fetchall()


# --8<-- [end:wrong]


def test_often_copied_reads_the_whole_table(indexed):
    """Often copied: a number compared as a text. The answer is right, and the index is
    of no use: all 5000 rows are read for 10."""
    assert len(find_as_copied(indexed, "7")) == 10
    text = measure(indexed, "SELECT id FROM orders WHERE TO_CHAR(customer) = :c", c="7")
    assert "TABLE ACCESS FULL" in text
    assert "ORDERS_CUSTOMER" not in text
