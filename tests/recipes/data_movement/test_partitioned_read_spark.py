from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from functools import partial

import psutil
import psycopg
import pytest
from py4j.protocol import Py4JJavaError
from pyspark import SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import functions as f

from recipes.data_movement.partitioned_read_spark import (
    jdbc_options,
    open_spark,
    open_table,
    predicates,
)


@pytest.fixture(scope="module")
def sessions():
    """The one session of this module, once a test has asked for it."""
    opened = []
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("JAVA_HOME", raising=False)  # the Java in the PATH
        yield opened
    for session in opened:
        session.stop()
        gateway = SparkContext._gateway
        SparkContext._gateway = SparkContext._jvm = None
        gateway.shutdown()
        gateway.proc.stdin.close()  # Java ends with it
        gateway.proc.wait(timeout=60)


@pytest.fixture
def session(spark, sessions):
    if not sessions:
        sessions.append(open_spark(spark))
    return sessions[0]


@pytest.fixture
def table(postgresql):
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute("CREATE TABLE item (id bigint, name text)")
        yield conn


def ids(frame):
    return [row["id"] for row in frame.select("id").collect()]


def parts(frame):
    """The ids of each partition that has rows."""
    found = {}
    for row in frame.select("id", f.spark_partition_id().alias("part")).collect():
        found.setdefault(row["part"], []).append(row["id"])
    return found


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param("SELECT n FROM generate_series(1, 100) n", id="even"),
        pytest.param("SELECT n * n * n FROM generate_series(-50, 49) n", id="skewed"),
        pytest.param(
            "SELECT nullif(n % 3, 0) FROM generate_series(1, 100) n", id="few-and-null"
        ),
        pytest.param("SELECT NULL::bigint FROM generate_series(1, 100)", id="all-null"),
    ],
)
def test_each_row_once(table, postgresql, session, rows):
    """Each row is in exactly one partition: even keys, skewed ones, many equal ones,
    and rows whose key is NULL."""
    table.execute(f"INSERT INTO item SELECT id, 'x' FROM ({rows}) AS t(id)")
    expected = [id for (id,) in table.execute("SELECT id FROM item")]
    with open_table(session, postgresql, "item", "id", 7) as frame:
        assert sorted(ids(frame), key=str) == sorted(expected, key=str)


def test_as_many_rows_each(table, postgresql, session):
    """Partitions hold about as many rows each, however the keys are spread."""
    table.execute("INSERT INTO item SELECT n ^ 4, 'x' FROM generate_series(1, 1000) n")
    with open_table(session, postgresql, "item", "id", 4) as frame:
        assert frame.rdd.getNumPartitions() == 4
        assert max(map(len, parts(frame).values())) <= 251


def test_null_keys_are_in_the_first(table, postgresql, session):
    """Rows without a key are in the first partition."""
    table.execute("INSERT INTO item VALUES (1), (2), (3), (NULL)")
    with open_table(session, postgresql, "item", "id", 2) as frame:
        assert None in parts(frame)[0]


def test_empty(table, postgresql, session):
    """An empty table is a frame with its columns and types, and no rows."""
    with open_table(session, postgresql, "item", "id", 4) as frame:
        assert frame.dtypes == [("id", "bigint"), ("name", "string")]
        assert frame.count() == 0


def test_types(table, postgresql, session):
    """Decimals, large integers, dates, texts and NULL arrive as they were."""
    table.execute("CREATE TABLE typed (id bigint, price numeric(20, 4), day date)")
    table.execute(
        "INSERT INTO typed VALUES"
        " (9007199254740993, 1234567890123456.7890, '2026-02-28'), (NULL, NULL, NULL)"
    )
    with open_table(session, postgresql, "typed", "id", 2) as frame:
        assert frame.dtypes[1] == ("price", "decimal(20,4)")
        found = sorted(frame.collect(), key=lambda row: row.id is None)
    price = Decimal("1234567890123456.7890")
    assert [tuple(row) for row in found] == [
        (9007199254740993, price, date(2026, 2, 28)),
        (None, None, None),
    ]


def test_moments(table, postgresql, session):
    """A timestamptz stays the moment that it was, to the microsecond. Spark shows it in
    UTC; in Python it has no zone, and is in that of the process."""
    at = datetime(2026, 3, 1, 1, 30, 0, 123456, tzinfo=timezone(timedelta(hours=5)))
    table.execute("CREATE TABLE event (id bigint, at timestamptz)")
    table.execute("INSERT INTO event VALUES (1, %s)", (at,))
    with open_table(session, postgresql, "event", "id", 1) as frame:
        (row,) = frame.select(
            "at",
            f.unix_micros("at").alias("micros"),
            f.col("at").cast("string").alias("shown"),
        ).collect()
    since = at - datetime.fromtimestamp(0, UTC)
    assert row.micros == since // timedelta(microseconds=1)
    assert row.shown == "2026-02-28 20:30:00.123456"
    assert row["at"].tzinfo is None
    assert row["at"].astimezone(UTC) == at


def test_aggregates_agree(table, postgresql, session, capsys):
    """Sums and counts, with a filter that Spark leaves to the database, are those that
    PostgreSQL computes."""
    table.execute("CREATE TABLE sale (id bigint, shop text, amount numeric(12, 2))")
    table.execute(
        "INSERT INTO sale SELECT nullif(n, 5), 'shop ' || n % 3, n / 100.0"
        " FROM generate_series(1, 1000) n"
    )
    expected = table.execute(
        "SELECT shop, sum(amount), count(*) FROM sale WHERE amount < 7"
        " GROUP BY shop ORDER BY shop"
    ).fetchall()
    with open_table(session, postgresql, "sale", "id", 4) as frame:
        cheap = frame.where(f.col("amount") < 7)
        cheap.explain()
        assert "LessThan(amount," in capsys.readouterr().out
        sums = cheap.groupBy("shop").agg(f.sum("amount"), f.count("*"))
        found = [tuple(row) for row in sums.sort("shop").collect()]
    assert found == expected


def test_one_snapshot(table, postgresql, session):
    """All partitions are read as they were when the table was opened, though all rows
    are deleted before the first is read."""
    table.execute("INSERT INTO item SELECT n, 'x' FROM generate_series(1, 100) n")
    with open_table(session, postgresql, "item", "id", 4) as frame:
        table.execute("DELETE FROM item")
        assert frame.count() == 100
        assert frame.count() == 100


def test_after_the_block(table, postgresql, session):
    """Computed after the block, it is an error, not another state of the table."""
    table.execute("INSERT INTO item VALUES (1, 'x')")
    with open_table(session, postgresql, "item", "id", 2) as frame:
        pass
    with pytest.raises(Py4JJavaError, match=r"snapshot .* does not exist"):
        frame.count()


@pytest.mark.parametrize(("fetchsize", "read"), [("10000", 10000), ("0", 50000)])
def test_fetchsize(table, postgresql, session, fetchsize, read):
    """Rows come in pieces of `fetchsize`; 0 means all of them before the first."""
    options = jdbc_options(postgresql)
    assert options["fetchsize"] == "10000"
    table.execute("CREATE SEQUENCE counter")
    query = "SELECT nextval('counter') AS n FROM generate_series(1, 50000)"
    options |= {"query": query, "fetchsize": fetchsize}
    assert len(session.read.format("jdbc").options(**options).load().take(1)) == 1
    assert table.execute("SELECT last_value FROM counter").fetchone() == (read,)


def test_password_is_hidden(table, postgresql, session, capsys):
    """The password is in no plan, and not in the error where it is wrong."""
    options = jdbc_options(postgresql)
    assert options["password"] not in options["url"]
    with open_table(session, postgresql, "item", "id", 2) as frame:
        frame.explain("extended")
    plan = capsys.readouterr().out
    assert "JDBCRelation" in plan
    assert options["password"] not in plan
    wrong = {**options, "password": "correct-horse-battery", "dbtable": "item"}
    with pytest.raises(PySparkException, match="connect to the database") as caught:
        session.read.format("jdbc").options(**wrong).load()
    assert "correct-horse-battery" not in str(caught.value)


def test_loopback(session):
    """Spark on this machine is reached from this machine alone."""
    java = psutil.Process(SparkContext._gateway.proc.pid)
    every = [java, *java.children(recursive=True)]
    sockets = [it for one in every for it in one.net_connections("tcp")]
    listening = {it.laddr.ip for it in sockets if it.status == psutil.CONN_LISTEN}
    assert listening <= {"127.0.0.1", "::ffff:127.0.0.1", "::1"}
    assert listening


def test_address():
    """A libpq address becomes JDBC's, TLS settings included."""
    given = "postgresql://ann:p%40ss@db.example.com/a%20b?sslmode=verify-full&sslrootcert=/ca"
    options = jdbc_options(given)
    assert options["url"] == "jdbc:postgresql://db.example.com:5432/a%20b"
    wanted = {"user": "ann", "password": "p@ss", "sslmode": "verify-full"}
    assert {**wanted, "sslrootcert": "/ca"}.items() <= options.items()


def test_hostile_names(table, postgresql, session):
    """A table name that holds SQL is the name of no table; a quote in a name is one."""
    with (
        pytest.raises(psycopg.errors.UndefinedTable),
        open_table(session, postgresql, 'item"; DROP TABLE item; --', "id", 2),
    ):
        pass
    table.execute('CREATE TABLE "it""em" ("i""d" bigint)')
    table.execute('INSERT INTO "it""em" VALUES (1), (2)')
    with open_table(session, postgresql, 'it"em', 'i"d', 2) as frame:
        assert frame.count() == 2


def test_text_as_key(table):
    """A key that is not a number is refused."""
    table.execute("INSERT INTO item VALUES (1, 'x OR true')")
    with pytest.raises(ValueError, match="x OR true"):
        predicates(table, "item", "name", 2)


# --8<-- [start:wrong]
def read_as_often_copied(spark, url, properties, low, high, count):
    return spark.read.jdbc(
        url=url,
        table="item",
        column="id",
        lowerBound=low,
        upperBound=high,
        numPartitions=count,
        properties=properties,
    )


# --8<-- [end:wrong]


@pytest.fixture
def read_copied(session, postgresql):
    options = jdbc_options(postgresql)
    names = ("driver", "user", "password")
    properties = {name: options[name] for name in names}
    return partial(read_as_often_copied, session, options["url"], properties)


def test_often_copied_bounds(table, read_copied):
    """Often copied: lowerBound and upperBound leave out no row. Smaller keys, and NULL,
    are in the first partition, larger ones in the last."""
    table.execute("INSERT INTO item SELECT n FROM generate_series(1, 100) n")
    table.execute("INSERT INTO item VALUES (NULL)")
    frame = read_copied(40, 60, 4)
    found = {part: set(some) for part, some in parts(frame).items()}
    assert found == {
        0: {None, *range(1, 45)},
        1: set(range(45, 50)),
        2: set(range(50, 55)),
        3: set(range(55, 101)),
    }


def test_often_copied_skew(table, read_copied):
    """Often copied: with one key far from the others, one partition has nearly all."""
    table.execute("INSERT INTO item SELECT n FROM generate_series(1, 999) n")
    table.execute("INSERT INTO item VALUES (1000000)")
    frame = read_copied(1, 1000000, 4)
    assert sorted(map(len, parts(frame).values())) == [1, 999]


def test_often_copied_moments(table, read_copied):
    """Often copied: each partition is of another moment. A row that moves between two
    reads is counted twice."""
    table.execute("INSERT INTO item VALUES (1, 'moves'), (4, 'stays')")
    frame = read_copied(1, 5, 2)
    rows = frame.toLocalIterator()  # one partition after the other
    first = next(rows)
    table.execute("UPDATE item SET id = 3 WHERE name = 'moves'")
    names = [row["name"] for row in (first, *rows)]
    assert sorted(names) == ["moves", "moves", "stays"]
