"""rows_as_dicts: names, numbers and times as they are."""

from contextlib import closing
from datetime import UTC, date, datetime
from decimal import Decimal

import ibm_db
import ibm_db_dbi
import pytest

from recipes.db2.rows_as_dicts import SCHEMA, Account, accounts, rows

LARGE = Decimal("9007199254740993.01")  # no float holds it


@pytest.fixture
def bank(conn):
    """A connection to a table with two accounts."""
    with closing(conn.cursor()) as cursor:
        cursor.execute(SCHEMA)
        query = "INSERT INTO account VALUES (?, ?, ?, ?)"
        cursor.execute(query, (1, "Ann", Decimal("0.10"), datetime(2026, 1, 5, 12)))
        cursor.execute(query, (2, "Ben", LARGE, datetime(2026, 1, 6, 12, 0, 0, 123456)))
    conn.commit()
    return conn


def test_names_in_lower_case(bank):
    """Names come in lower case, also where the query writes them otherwise."""
    (row,) = rows(bank, "SELECT Id, OWNER AS Who FROM account WHERE id = ?", (1,))
    assert row == {"id": 1, "who": "Ann"}


def test_exact_numbers(bank):
    """DECIMAL is exact, beyond what a float holds."""
    found = [row["balance"] for row in rows(bank, "SELECT balance FROM account")]
    assert sorted(found) == [Decimal("0.10"), LARGE]


def test_decfloat(bank):
    """DECFLOAT is a Decimal too."""
    (row,) = rows(bank, "VALUES CAST('0.1' AS DECFLOAT)")
    assert list(row.values()) == [Decimal("0.1")]


def test_null_and_other_types(bank):
    """NULL is None; DATE, BIGINT and text are what Python has for them."""
    query = (
        "VALUES (CAST(NULL AS INTEGER), DATE('2026-01-05'), BIGINT(9007199254740993),"
        " CAST('a' AS CHAR(3)))"
    )
    (row,) = rows(bank, query)
    assert list(row.values()) == [None, date(2026, 1, 5), 9007199254740993, "a  "]


def test_times_carry_their_zone(bank):
    """With zone, a TIMESTAMP is an aware time, to the microsecond."""
    query = "SELECT opened FROM account WHERE id = 2"
    (aware,), (naive,) = (list(rows(bank, query, zone=zone)) for zone in (UTC, None))
    assert aware["opened"] == datetime(2026, 1, 6, 12, 0, 0, 123456, UTC)
    assert naive["opened"] == datetime(2026, 1, 6, 12, 0, 0, 123456)


def test_objects(bank):
    """Rows become objects of a dataclass."""
    opened = datetime(2026, 1, 6, 12, 0, 0, 123456, UTC)
    assert list(accounts(bank, Decimal(1))) == [Account(2, "Ben", LARGE, opened)]


def test_two_columns_of_one_name(bank):
    """Two columns of one name are a ValueError: one of them would be lost."""
    query = "SELECT a.id, b.id FROM account a, account b"
    with pytest.raises(ValueError, match="with AS"):
        next(rows(bank, query))


@pytest.mark.parametrize("batch", [1, 2, 7, 1000])
def test_every_row_once(bank, batch):
    """Each row comes once and in order, whatever the size of the batches."""
    numbers = ", ".join(map(str, range(1, 15)))
    query = f"SELECT n FROM (VALUES {numbers}) AS t (n) ORDER BY n"
    found = [row["n"] for row in rows(bank, query, batch=batch)]
    assert found == list(range(1, 15))


def test_error_of_the_server(bank):
    """What the server refuses, at whatever row, is a DatabaseError."""
    query = "SELECT id / (id - 2) FROM account ORDER BY id"
    with pytest.raises(ibm_db_dbi.DatabaseError, match="SQL0801N"):
        list(rows(bank, query))


class FailingCursor:
    """The driver's cursor where a fetch fails: ibm_db raises a bare Exception there."""

    description = [("N", ibm_db_dbi.NUMBER)]
    closed = False

    def __init__(self, error):
        self.error = error

    def cursor(self):
        return self

    def execute(self, query, values):
        pass

    def fetchmany(self, size):
        raise self.error

    def close(self):
        self.closed = True


@pytest.mark.parametrize("kind", [Exception, ibm_db_dbi.DatabaseError])
def test_fetch_error_is_mapped(kind):
    """A bare Exception of the driver's fetch becomes a DatabaseError with its text."""
    fake = FailingCursor(kind("Fetch Failure: SQL0801N SQLSTATE=22012"))
    with pytest.raises(ibm_db_dbi.DatabaseError, match="SQL0801N"):
        list(rows(fake, "SELECT n FROM t"))
    assert fake.closed


# --8<-- [start:wrong]
def rows_as_copied(conn, query):
    stmt = ibm_db.exec_immediate(conn, query)
    rows = []
    row = ibm_db.fetch_assoc(stmt)
    while row:
        rows.append(row)
        row = ibm_db.fetch_assoc(stmt)
    return rows


# --8<-- [end:wrong]


def test_often_copied_decimal_is_text(bank):
    """Often copied: DECIMAL arrives as text, and twice the balance is 0.100.10."""
    query = "SELECT balance FROM account WHERE id = 1"
    (row,) = rows_as_copied(bank.conn_handler, query)
    assert row["BALANCE"] * 2 in ("0.100.10", ".10.10")


def test_often_copied_loses_a_column(bank):
    """Often copied: of two columns of one name one is gone, without an error."""
    query = "SELECT a.id, b.id FROM account a, account b WHERE a.id < b.id"
    (row,) = rows_as_copied(bank.conn_handler, query)
    assert list(row) == ["ID"]
