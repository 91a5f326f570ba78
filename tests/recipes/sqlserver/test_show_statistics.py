import pytest

from recipes.sqlserver.show_statistics import NAME, SCHEMA, measure
from tests.recipes.support.tds_listener import error, head, message, result

READS = (
    "Table '{}'. Scan count 1, logical reads {}, physical reads 0, page server reads 0,"
    " read-ahead reads 0, lob logical reads 0."
)
TIMES = "SQL Server {} Times:\n   CPU time = {} ms,  elapsed time = 99 ms."
PLAN = (
    '<ShowPlanXML><RelOp PhysicalOp="Stream Aggregate"><RelOp PhysicalOp="Index Seek"/>'
    "</RelOp></ShowPlanXML>"
)


def more(answer):
    """The answer, when another one follows: the end of it says so."""
    at = len(answer) - 13
    return answer[: at + 1] + bytes([answer[at + 1] | 1]) + answer[at + 2 :]


@pytest.fixture
def measured(listener, connections):
    """Measure a query on a server that answers as SQL Server does: rows, counters, the
    plan, times."""

    def answer(text):
        if text.startswith("SET"):
            return None
        return (
            message(3612, TIMES.format("parse and compile", 7))
            + head(["n"], (1,), (2,))
            + message(3615, READS.format("visit", 40))
            + message(3615, READS.format("page", 2))
            + more(result(["x"], (1,))[-13:])
            + more(result([NAME], (PLAN,)))
            + message(3612, TIMES.format("Execution", 15))
            + result(["x"], (1,))[-13:]
        )

    server = listener(answer)
    found = measure(connections(server.dsn), "SELECT")
    return server, found


def test_rows(measured):
    """The rows of the query come too, and those of the plan are not among them."""
    assert [tuple(row) for row in measured[1].rows] == [(1,), (2,)]


def test_counters(measured):
    """The pages of each table are counted, and the time of the execution alone."""
    assert measured[1].reads == {"visit": 40, "page": 2}
    assert measured[1].cpu_ms == 15


def test_operators(measured):
    """The plan comes as XML, with its steps."""
    assert measured[1].plan == PLAN
    assert measured[1].operators == ["Stream Aggregate", "Index Seek"]


def test_in_english(measured):
    """The language is set first, since the counters come as text; then all is off."""
    assert [it for it in measured[0].requests if it != "BEGIN"] == [
        "SET LANGUAGE us_english",
        "SET STATISTICS IO, TIME, XML ON",
        "SELECT",
        "SET STATISTICS IO, TIME, XML OFF",
    ]


def test_off_after_an_error(listener, connections):
    """After an error in the query the counters are off again."""
    server = listener(lambda text: error(208, "nowhere") if text == "SELECT" else None)
    with pytest.raises(Exception, match="nowhere"):
        measure(connections(server.dsn), "SELECT")
    assert server.requests[-1] == "SET STATISTICS IO, TIME, XML OFF"


def test_index(sqlserver, query, connections):
    """The same count with an index reads a fraction of the pages, by a seek."""
    query(sqlserver, SCHEMA)
    conn = connections(sqlserver)
    sql = "SELECT COUNT(*) FROM visit WHERE page = ?"
    slow = measure(conn, sql, 7)
    conn.execute("CREATE INDEX visit_page ON visit (page)")
    fast = measure(conn, sql, 7)
    assert slow.rows[0][0] == fast.rows[0][0] == 40
    assert slow.reads["visit"] > 100 * fast.reads["visit"] > 0
    assert slow.operators[-1] == "Clustered Index Scan"
    assert fast.operators[-1] == "Index Seek"


def test_same_on_every_run(sqlserver, query, connections):
    """Pages read are the same on every run."""
    query(sqlserver, SCHEMA)
    conn = connections(sqlserver)
    sql = "SELECT COUNT(*) FROM visit WHERE page = ?"
    assert measure(conn, sql, 7).reads == measure(conn, sql, 7).reads


# --8<-- [start:wrong]
def reads_as_often_copied(conn, sql):
    conn.execute("SET STATISTICS IO ON")
    cursor = conn.execute(sql)
    return [text for _, text in cursor.messages if "logical reads" in text]


# --8<-- [end:wrong]


def test_often_copied_sees_nothing(listener, connections):
    """Often copied: the counters come behind the rows; before these are read, there
    are none."""
    answer = head(["n"], (1,)) + message(3615, READS.format("visit", 40))
    server = listener(
        lambda text: answer + result(["x"], (1,))[-13:] if text == "SELECT" else None
    )
    assert reads_as_often_copied(connections(server.dsn), "SELECT") == []
