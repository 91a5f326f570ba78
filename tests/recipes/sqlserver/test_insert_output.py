import datetime

import mssql_python
import pytest

from recipes.sqlserver.insert_output import SCHEMA, insert, insert_many
from tests.recipes.support.tds_listener import result


@pytest.fixture
def tickets(sqlserver, query):
    """The address of a database with an empty table."""
    query(sqlserver, SCHEMA)
    return sqlserver


@pytest.fixture
def with_trigger(tickets, query):
    """The same, and a trigger that writes to a table with numbers of its own."""
    query(tickets, "CREATE TABLE audit (id int IDENTITY(1000, 1), ticket int)")
    query(
        tickets,
        "CREATE TRIGGER audited ON ticket AFTER INSERT AS"
        " INSERT INTO audit (ticket) SELECT id FROM inserted",
    )
    return tickets


def test_number_and_time(tickets, connections, query):
    """The number and the time that the server made up come back."""
    conn = connections(tickets)
    number, created = insert(conn, "a-1", "fire")
    conn.commit()
    assert query(tickets, "SELECT id, created FROM ticket") == [(number, created)]
    age = datetime.datetime.now(datetime.UTC) - created
    assert abs(age) < datetime.timedelta(hours=1)


def test_each_its_own(tickets, connections, query):
    """Each of a thousand rows gets its own number, whatever their order was."""
    conn = connections(tickets)
    wanted = [(f"ref {n}", f"title {n} 'quoted' €") for n in range(1_000)]
    numbers = insert_many(conn, wanted)
    conn.commit()
    rows = query(tickets, "SELECT ref, title, id FROM ticket")
    assert {(ref, title) for ref, title, _ in rows} == set(wanted)
    assert {ref: number for ref, _, number in rows} == numbers


def test_table_with_a_trigger(with_trigger, connections, query):
    """On a table with a trigger the number is that of the row, not the trigger's."""
    conn = connections(with_trigger)
    number, _ = insert(conn, "a-1", "fire")
    numbers = insert_many(conn, [("a-2", "paper")])
    conn.commit()
    rows = query(with_trigger, "SELECT ref, id FROM ticket ORDER BY id")
    assert rows == [("a-1", number), ("a-2", numbers["a-2"])]
    assert number < 1_000


def test_all_or_none(tickets, connections, query):
    """One row that is there already, and none is inserted."""
    conn = connections(tickets)
    with pytest.raises(mssql_python.IntegrityError):
        insert_many(conn, [("a-1", "fire"), ("a-1", "again")])
    conn.rollback()
    assert query(tickets, "SELECT COUNT(*) FROM ticket") == [(0,)]


def test_no_title(tickets, connections):
    """A row without its title is an error."""
    with pytest.raises(mssql_python.IntegrityError):
        insert_many(connections(tickets), [("a-1", None)])


def test_one_request(listener, connections):
    """A hundred rows are one request."""
    server = listener(lambda text: result(["ref", "id"], ("a", 1), ("b", 2)))
    numbers = insert_many(connections(server.dsn), [("a", "x")] * 100)
    assert numbers == {"a": 1, "b": 2}
    assert len([it for it in server.requests if it != "BEGIN"]) == 1


# --8<-- [start:wrong]
def insert_as_often_copied(conn, ref, title):
    conn.execute("INSERT INTO ticket (ref, title) VALUES (?, ?)", ref, title)
    return conn.execute("SELECT @@IDENTITY").fetchone()[0]


# --8<-- [end:wrong]


def test_often_copied_number_of_the_trigger(with_trigger, connections):
    """Often copied: @@IDENTITY is the last number of any table, here the trigger's."""
    assert insert_as_often_copied(connections(with_trigger), "a-1", "fire") == 1_000


def test_often_copied_scope_is_over(tickets, connections):
    """Often copied, as SCOPE_IDENTITY in a statement of its own: it is NULL."""
    conn = connections(tickets)
    conn.execute("INSERT INTO ticket (ref, title) VALUES (?, ?)", "a-1", "fire")
    assert conn.execute("SELECT SCOPE_IDENTITY()").fetchone()[0] is None


def test_often_copied_output_and_a_trigger(with_trigger, connections):
    """Often copied, as OUTPUT without INTO: an error on a table with a trigger."""
    with pytest.raises(mssql_python.Error, match="OUTPUT clause without INTO"):
        connections(with_trigger).execute(
            "INSERT INTO ticket (ref, title) OUTPUT inserted.id VALUES (?, ?)", "a", "b"
        )
