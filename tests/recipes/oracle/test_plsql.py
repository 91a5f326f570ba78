"""plsql: what was compiled, what was called, and what it said."""

from decimal import Decimal

import oracledb
import pytest

from recipes.oracle.plsql import (
    BOOK,
    CHEAPER,
    TABLE,
    book,
    cheaper,
    compile_plsql,
    output,
)


@pytest.fixture
def shop(conn):
    """A connection to a schema with stock and two compiled units."""
    with conn.cursor() as cursor:
        cursor.execute(TABLE)
        stock = [("cup", Decimal("4.10"), 10), ("pot", Decimal("18.00"), 1)]
        cursor.executemany("INSERT INTO stock VALUES (:1, :2, :3)", stock)
        compile_plsql(conn, "book", BOOK)
        compile_plsql(conn, "cheaper", CHEAPER)
        cursor.callproc("dbms_output.enable")
    return conn


def held(conn, item: str) -> int:
    with conn.cursor() as cursor:
        cursor.execute("SELECT held FROM stock WHERE item = :1", [item])
        return cursor.fetchone()[0]


def test_out_parameter(shop):
    """The cost comes back exact, and the stock is less."""
    assert book(shop, "cup", 3) == Decimal("12.30")
    assert held(shop, "cup") == 7


def test_error_of_the_application(shop):
    """The procedure's own error, -20001, is a LookupError; the database's error is its
    cause."""
    with pytest.raises(LookupError, match="jug") as caught:
        book(shop, "jug", 1)
    assert isinstance(caught.value.__cause__, oracledb.DatabaseError)


def test_error_of_the_database(shop):
    """More than are held: IntegrityError of the constraint, and nothing changed."""
    with pytest.raises(oracledb.IntegrityError) as caught:
        book(shop, "pot", 2)
    assert caught.value.args[0].code == 2290
    assert held(shop, "pot") == 1


def test_nothing_is_committed(shop, oracle):
    """A call is a part of the caller's transaction: after a rollback it is undone."""
    shop.commit()
    book(shop, "cup", 3)
    shop.rollback()
    assert held(shop, "cup") == 10


def test_cursor(shop):
    """A function that returns a cursor gives its rows."""
    assert cheaper(shop, Decimal("18.00")) == ["cup"]
    assert cheaper(shop, Decimal("18.01")) == ["cup", "pot"]


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250])
def test_output(shop, count):
    """Every line of DBMS_OUTPUT comes, empty ones too, whatever their number."""
    with shop.cursor() as cursor:
        cursor.execute(
            "BEGIN FOR n IN 1 .. :last LOOP DBMS_OUTPUT.PUT_LINE(''); END LOOP; END;",
            last=count,
        )
    assert output(shop) == [""] * count
    assert output(shop) == []


def test_output_of_the_procedure(shop):
    """What the procedure printed."""
    book(shop, "cup", 3)
    assert output(shop) == ["booked 3 of cup"]


BROKEN = """
CREATE OR REPLACE FUNCTION broken RETURN NUMBER IS
BEGIN
    RETURN no_such_thing;
END;
"""


def test_does_not_compile(conn):
    """A function with an error in it is a ValueError: the line, and the compiler's
    words."""
    with pytest.raises(ValueError, match=r"(?s)broken does not compile.*NO_SUCH_THING"):
        compile_plsql(conn, "broken", BROKEN)


# --8<-- [start:wrong]
def create_as_copied(conn, source):
    with conn.cursor() as cursor:
        cursor.execute(source)
    conn.commit()


# --8<-- [end:wrong]


def test_often_copied_creates_what_cannot_run(conn):
    """Often copied: no error. The function is there, and the first caller gets
    ORA-06575 or PLS-00905: it is not valid."""
    create_as_copied(conn, BROKEN)
    with conn.cursor() as cursor:
        cursor.execute("SELECT status FROM user_objects WHERE object_name = 'BROKEN'")
        assert cursor.fetchone() == ("INVALID",)
        with pytest.raises(oracledb.DatabaseError):
            cursor.callfunc("broken", int)
