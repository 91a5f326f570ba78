import datetime
from decimal import Decimal
from uuid import UUID

import mssql_python
import pytest

from recipes.sqlserver.rows_as_dicts import dicts
from tests.recipes.support.tds_listener import done, head, result


@pytest.fixture
def asked(listener, connections):
    """A connection to a listener that answers every question in the same way."""
    return lambda answer: connections(listener(lambda text: answer).dsn)


def test_names_and_values(asked):
    """The names come from the query, NULL is None, and the rows keep their order."""
    conn = asked(result(["id", "name"], (1, "anna"), (2, None)))
    assert list(dicts(conn, "SELECT")) == [
        {"id": 1, "name": "anna"},
        {"id": 2, "name": None},
    ]


def test_no_rows(asked):
    """No rows are an empty list, not an error."""
    empty = head(["id"], (1,)).partition(b"\xd1")[0] + done()
    assert list(dicts(asked(empty), "SELECT")) == []


@pytest.mark.parametrize(
    ("names", "said"),
    [
        pytest.param(["id", "name", "id"], "'id'", id="twice"),
        pytest.param(["id", ""], "''", id="no-name"),
    ],
)
def test_ambiguous(asked, names, said):
    """Two columns of one name, and one without a name, are a ValueError."""
    conn = asked(result(names, tuple(range(len(names)))))
    with pytest.raises(ValueError, match=said):
        list(dicts(conn, "SELECT"))


def test_no_result(asked):
    """A statement that returns no rows at all is a ValueError."""
    with pytest.raises(ValueError, match="no rows"):
        list(dicts(asked(None), "UPDATE"))


def test_batches(asked):
    """More rows than one batch holds: all of them come."""
    conn = asked(result(["n"], *((n,) for n in range(25))))
    assert [row["n"] for row in dicts(conn, "SELECT", size=10)] == list(range(25))


def test_lost_line(listener, connections):
    """A line that breaks between two rows is an error, not an early end."""

    def cut():
        yield head(["n"], (0,), (1,))
        raise OSError

    conn = connections(listener(lambda text: cut()).dsn, autocommit=True)
    with pytest.raises(mssql_python.OperationalError):
        list(dicts(conn, "SELECT"))


def test_bad_query(sqlserver, connections):
    """An error in the query reaches the caller."""
    with pytest.raises(mssql_python.ProgrammingError, match="nowhere"):
        list(dicts(connections(sqlserver), "SELECT nowhere"))


def test_types(sqlserver, connections):
    """Each type comes as the Python type that holds it without loss."""
    (row,) = dicts(
        connections(sqlserver),
        "SELECT CAST('0.10' AS decimal(9, 2)) AS money,"
        " CAST('2026-11-21T12:00:00.1234560+01:00' AS datetimeoffset) AS at,"
        " CAST('6F9619FF-8B86-D011-B42D-00C04FC964FF' AS uniqueidentifier) AS id,"
        " CAST(9007199254740993 AS bigint) AS number, CAST(1 AS bit) AS yes,"
        " CAST(0x00FF AS varbinary(9)) AS raw, CAST('2026-11-21' AS date) AS day,"
        " CAST(NULL AS int) AS nothing, NCHAR(8364) AS sign",
    )
    offset = datetime.timezone(datetime.timedelta(hours=1))
    assert row == {
        "money": Decimal("0.10"),
        "at": datetime.datetime(2026, 11, 21, 12, 0, 0, 123456, offset),
        "id": UUID("6f9619ff-8b86-d011-b42d-00c04fc964ff"),
        "number": 9007199254740993,
        "yes": True,
        "raw": b"\x00\xff",
        "day": datetime.date(2026, 11, 21),
        "nothing": None,
        "sign": "€",
    }


def test_parameters(sqlserver, connections):
    """Values are sent as parameters, quotes and percent signs included."""
    value = "O'Brien 100% %(x)s ?"
    conn = connections(sqlserver)
    assert list(dicts(conn, "SELECT ? AS it", value)) == [{"it": value}]


# --8<-- [start:wrong]
def rows_as_often_copied(cursor):
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=False)) for row in cursor.fetchall()]


# --8<-- [end:wrong]


def test_often_copied_loses_a_column(asked):
    """Often copied: of two columns named `id` the second is kept, in silence."""
    conn = asked(result(["id", "name", "id"], (1, "order", 7)))
    assert rows_as_often_copied(conn.execute("SELECT")) == [{"id": 7, "name": "order"}]
