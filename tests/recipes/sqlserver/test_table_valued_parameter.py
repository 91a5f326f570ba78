import subprocess
import sys
from contextlib import closing
from decimal import Decimal

import mssql_python
import pytest

BOTH = pytest.mark.parametrize(
    "recipe",
    ["table_valued_parameter", "table_valued_parameter_openjson"],
    indirect=True,
)


@pytest.fixture
def recipe(request, with_pyodbc):
    return with_pyodbc(request.param)


@pytest.fixture
def shop(sqlserver, recipe, query):
    """The address of a database with the recipe's tables and procedure."""
    for statement in recipe.SCHEMA:
        query(sqlserver, statement)
    return sqlserver


def connect(recipe, dsn):
    if hasattr(recipe, "pyodbc"):
        return closing(recipe.pyodbc.connect(recipe.DRIVER + dsn, timeout=5))
    return mssql_python.connect(dsn, timeout=5)


def errors(recipe):
    return getattr(recipe, "pyodbc", mssql_python).Error


def stored(query, dsn):
    return query(
        dsn,
        "SELECT customer, product, quantity, price"
        " FROM purchase JOIN purchase_line ON purchase = id ORDER BY product",
    )


@BOTH
def test_one_call(shop, recipe, query):
    """One call stores the order and all its lines, quotes and cents included."""
    lines = [
        recipe.Line("bolt 'M8' \N{CJK UNIFIED IDEOGRAPH-20000}", 100, Decimal("0.10")),
        recipe.Line("größer", 2_000_000, Decimal("9999999999.99")),
    ]
    with connect(recipe, shop) as conn:
        assert recipe.add_purchase(conn, 7, lines) == 1
    assert stored(query, shop) == [(7, *line) for line in lines]


@BOTH
def test_many_lines(shop, recipe, query):
    """A thousand lines are one call too."""
    lines = [recipe.Line(f"part {n:04}", n + 1, Decimal(n)) for n in range(1_000)]
    with connect(recipe, shop) as conn:
        recipe.add_purchase(conn, 7, lines)
    assert stored(query, shop) == [(7, *line) for line in lines]


@BOTH
@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(("bolt", 0, Decimal(1)), id="none"),
        pytest.param(("bolt", 1, Decimal(-1)), id="minus"),
        pytest.param(("nut", 1, Decimal(1)), id="twice"),
    ],
)
def test_all_or_none(shop, recipe, query, bad):
    """A line that is refused: an error, and nothing of the order is there."""
    lines = [recipe.Line("nut", 1, Decimal(1)), recipe.Line(*bad)]
    with connect(recipe, shop) as conn:
        with pytest.raises(errors(recipe)):
            recipe.add_purchase(conn, 7, lines)
        conn.rollback()
    assert query(shop, "SELECT COUNT(*) FROM purchase") == [(0,)]


@BOTH
def test_no_lines(listener, recipe):
    """An order without lines is a ValueError, and nobody is asked."""
    server = listener()
    with (
        connect(recipe, server.dsn) as conn,
        pytest.raises(ValueError, match="without lines"),
    ):
        recipe.add_purchase(conn, 7, [])
    assert not [it for it in server.requests if "add_purchase" in it]


@pytest.fixture
def pyodbc_recipe(with_pyodbc):
    return with_pyodbc("table_valued_parameter")


def test_rows_as_they_are(listener, pyodbc_recipe):
    """The rows travel as a table of the named type, with numbers as numbers."""
    server = listener()
    lines = [
        pyodbc_recipe.Line("bolt", 100, Decimal("1.5")),
        pyodbc_recipe.Line("nut", 300, Decimal("10.25")),
    ]
    with (
        connect(pyodbc_recipe, server.dsn) as conn,
        pytest.raises(pyodbc_recipe.pyodbc.Error),  # there is no answer to fetch
    ):
        pyodbc_recipe.add_purchase(conn, 7, lines)
    (sent,) = [it for it in server.calls if "nut".encode("utf-16-le") in it]
    assert "[dbo].[order_line] READONLY".encode("utf-16-le") in sent
    assert (300).to_bytes(8, "little") in sent
    for cents in (150, 1025):  # both with two digits behind the point
        assert b"\x11\x01" + cents.to_bytes(16, "little") in sent


def test_one_call_on_the_wire(listener, pyodbc_recipe):
    """The driver asks the server for no type: its name was given."""
    server = listener()
    lines = [pyodbc_recipe.Line("bolt", 1, Decimal(1))]
    with (
        connect(pyodbc_recipe, server.dsn) as conn,
        pytest.raises(pyodbc_recipe.pyodbc.Error),
    ):
        pyodbc_recipe.add_purchase(conn, 7, lines)
    asked = [it for it in server.requests if "sp_table_type" in it or "describe" in it]
    assert asked == []


def test_no_driver_manager():
    """On a machine without unixODBC the recipe says what to install."""
    code = "import sys; sys.modules['pyodbc'] = None; import recipes.sqlserver."
    done = subprocess.run(
        [sys.executable, "-c", f"{code}table_valued_parameter"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "apt-get install unixodbc" in done.stderr


def test_not_in_mssql_python(listener, connections):
    """mssql-python takes no table for a parameter: a TypeError, before it is sent."""
    server = listener()
    with pytest.raises(TypeError, match="Unsupported parameter type"):
        connections(server.dsn).execute("EXEC add_purchase ?, ?", 7, [("bolt", 1)])
    assert server.calls == []


# --8<-- [start:wrong]
def call_as_often_copied(conn, lines):
    cursor = conn.cursor()
    cursor.execute("EXEC add_lines ?", lines)


# --8<-- [end:wrong]


def test_often_copied_counts_the_rows(listener, pyodbc_recipe):
    """Often copied: the only parameter is a list, so pyodbc takes its rows for the
    parameters."""
    lines = [("bolt", 1), ("nut", 2)]
    with (
        connect(pyodbc_recipe, listener().dsn) as conn,
        pytest.raises(pyodbc_recipe.pyodbc.ProgrammingError, match="2 parameters"),
    ):
        call_as_often_copied(conn, lines)
