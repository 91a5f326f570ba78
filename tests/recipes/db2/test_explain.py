"""explain: the plan is read, nothing is run, and nothing stays behind."""

from contextlib import closing
from types import SimpleNamespace

import ibm_db_dbi
import pytest

from recipes.db2.explain import (
    INDEX,
    ROWS,
    TABLE,
    Step,
    create_explain_tables,
    explain,
    explain_schema,
)

QUERY = "SELECT id FROM visitor WHERE email = 'visitor7@example.com'"


@pytest.fixture
def visitors(conn):
    """A connection to ten thousand rows without an index."""
    try:
        explain_schema(conn)
    except LookupError:
        try:
            create_explain_tables(conn)
        except ibm_db_dbi.Error:
            conn.rollback()  # another worker is doing so
            assert explain_schema(conn)
    with closing(conn.cursor()) as cursor:
        for statement in (TABLE, ROWS):
            cursor.execute(statement)
    conn.commit()
    return conn


def execute(conn, statement):
    with closing(conn.cursor()) as cursor:
        cursor.execute(statement)


def one(conn, query):
    with closing(conn.cursor()) as cursor:
        cursor.execute(query)
        return cursor.fetchone()[0]


def test_whole_table(visitors):
    """Without an index the plan reads the whole table."""
    reads = [(it.operator, it.reads) for it in explain(visitors, QUERY) if it.reads]
    assert reads == [("TBSCAN", "VISITOR")]


def test_index(visitors):
    """With an index the plan reads it, and costs less."""
    before = explain(visitors, QUERY)
    execute(visitors, INDEX)
    visitors.commit()
    after = explain(visitors, QUERY)
    assert ("IXSCAN", "VISITOR_EMAIL") in [(it.operator, it.reads) for it in after]
    assert 0 < after[0].cost < before[0].cost


def test_first_and_last_step(visitors):
    """The first in the list is the last step: it returns the rows, at the full cost."""
    plan = explain(visitors, QUERY)
    assert plan[0].operator == "RETURN"
    assert plan[0].cost == max(it.cost for it in plan)


def test_not_executed(visitors):
    """A DELETE that is explained deletes nothing."""
    assert explain(visitors, "DELETE FROM visitor")
    assert one(visitors, "SELECT COUNT(*) FROM visitor") == 10000


def test_no_trace(visitors):
    """No row stays in the explain tables, and the transaction goes on."""
    tables = explain_schema(visitors)
    count = f"SELECT COUNT(*) FROM {tables}.EXPLAIN_INSTANCE"
    count += " WHERE EXPLAIN_REQUESTER = SESSION_USER"
    before = one(visitors, count)
    execute(visitors, "DELETE FROM visitor WHERE id < 5000")
    explain(visitors, QUERY)
    assert one(visitors, count) == before
    visitors.commit()
    assert one(visitors, "SELECT COUNT(*) FROM visitor") == 5000


def test_wrong_statement(visitors):
    """A statement with a mistake raises what the server says of it."""
    with pytest.raises(ibm_db_dbi.ProgrammingError, match="SQL0204N"):
        explain(visitors, "SELECT * FROM nobody")


# Without a server: what is sent, and what is made of the answer.


class Server:
    """A connection and its cursor: note each statement, and give prepared answers."""

    def __init__(self, *, schema="SYSTOOLS", rows=(), fails=None):
        self.schema, self.rows, self.fails = schema, rows, fails
        self.sent, self.committed = [], False

    def cursor(self):
        return SimpleNamespace(
            execute=self.execute,
            fetchone=lambda: self.schema and (self.schema,),
            fetchall=lambda: self.rows,
            close=lambda: None,
        )

    def execute(self, statement, values=()):
        self.sent.append((" ".join(statement.split()), values))
        if self.fails and statement.startswith(self.fails):
            raise ibm_db_dbi.ProgrammingError("SQL0104N")

    def commit(self):
        self.committed = True


def test_what_is_sent():
    """EXPLAIN is tagged, its rows are read by the tag, and undone to a savepoint."""
    server = Server(rows=[("RETURN", 7.5, None), ("IXSCAN", 7.0, "I")])
    assert explain(server, QUERY) == [
        Step("RETURN", 7.5, None),
        Step("IXSCAN", 7.0, "I"),
    ]
    _, savepoint, tagged, (query, (tag,)), undo = server.sent
    assert savepoint[0] == "SAVEPOINT plan ON ROLLBACK RETAIN CURSORS"
    assert tagged[0] == f"EXPLAIN PLAN SET QUERYTAG = '{tag}' FOR {QUERY}"
    assert len(tag) == 20
    assert '"SYSTOOLS".EXPLAIN_STATEMENT' in query
    assert undo[0] == "ROLLBACK TO SAVEPOINT plan"
    explain(server, QUERY)
    assert server.sent[8][1] != (tag,)


@pytest.mark.parametrize("fails", ["EXPLAIN", "ROLLBACK"])
def test_undone_after_an_error(fails):
    """After an error the savepoint is undone too; that it fails hides nothing."""
    server = Server(fails=fails)
    if fails == "EXPLAIN":
        with pytest.raises(ibm_db_dbi.ProgrammingError, match="SQL0104N"):
            explain(server, QUERY)
    else:
        assert explain(server, QUERY) == []
    assert server.sent[-1][0] == "ROLLBACK TO SAVEPOINT plan"


def test_no_tables():
    """Without explain tables: LookupError, and the name of the function that makes
    them."""
    with pytest.raises(LookupError, match="create_explain_tables"):
        explain(Server(schema=None), QUERY)


def test_create_tables():
    """The tables are made in SYSTOOLS, and committed."""
    server = Server()
    create_explain_tables(server)
    ((call, _),) = server.sent
    assert call.startswith("CALL SYSPROC.SYSINSTALLOBJECTS('EXPLAIN', 'C', CAST(NULL")
    assert server.committed


# --8<-- [start:wrong]
def explain_as_copied(conn, query):
    cursor = conn.cursor()
    cursor.execute("SET CURRENT EXPLAIN MODE EXPLAIN")
    cursor.execute(query)
    conn.commit()  # and now read the explain tables with db2exfmt


# --8<-- [end:wrong]


def test_often_copied_switches_the_connection_off(visitors):
    """Often copied: from then on the connection executes nothing. A DELETE ends without
    an error and deletes nothing."""
    explain_as_copied(visitors, QUERY)
    execute(visitors, "DELETE FROM visitor")
    execute(visitors, "SET CURRENT EXPLAIN MODE NO")
    assert one(visitors, "SELECT COUNT(*) FROM visitor") == 10000
