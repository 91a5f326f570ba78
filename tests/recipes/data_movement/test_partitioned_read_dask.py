import psycopg
import pytest
from dask.distributed import Client, LocalCluster

from recipes.data_movement.partitioned_read_dask import open_table, partitions

TYPES = {"id": "Int64", "name": "string"}


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes."""
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as here,
        Client(here) as client,
    ):
        yield client


@pytest.fixture
def table(postgresql):
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute("CREATE TABLE item (id bigint, name text)")
        yield conn


def read(url, count):
    with open_table(url, "item", "id", TYPES, count) as frame:
        return frame.compute(scheduler="synchronous")


def counts(conn, count):
    """The rows of each partition."""
    return [
        conn.execute(
            psycopg.sql.SQL("SELECT count(*) FROM item WHERE {}").format(part)
        ).fetchone()[0]
        for part in partitions(conn, "item", "id", count)
    ]


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param("SELECT n FROM generate_series(1, 100) n", id="even"),
        pytest.param("SELECT n * n * n FROM generate_series(-50, 49) n", id="skewed"),
        pytest.param("SELECT n % 3 FROM generate_series(1, 100) n", id="few-keys"),
        pytest.param(
            "SELECT nullif(n % 2, 0) FROM generate_series(1, 100) n", id="half-null"
        ),
        pytest.param("SELECT NULL::bigint FROM generate_series(1, 100)", id="all-null"),
    ],
)
@pytest.mark.parametrize("count", [1, 2, 7])
def test_each_row_once(table, postgresql, rows, count):
    """Each row is in exactly one partition: even keys, skewed ones, many equal ones,
    and rows whose key is NULL."""
    table.execute(f"INSERT INTO item SELECT id, 'x' FROM ({rows}) AS t(id)")
    assert sum(counts(table, count)) == 100
    assert len(read(postgresql, count)) == 100


def test_as_many_rows_each(table):
    """Partitions hold about as many rows each, however the keys are spread."""
    table.execute("INSERT INTO item SELECT n ^ 4, 'x' FROM generate_series(1, 1000) n")
    assert max(counts(table, 4)) <= 251


def test_empty(table, postgresql):
    """An empty table is a frame with its columns and types, and no rows."""
    frame = read(postgresql, 4)
    assert frame.dtypes.astype(str).to_dict() == {"id": "Int64", "name": "string"}
    assert len(frame) == 0


def test_types(table, postgresql):
    """Numbers that a float cannot hold, NULL and braces arrive as they were."""
    table.execute("INSERT INTO item VALUES (9007199254740993, '{}%'), (NULL, NULL)")
    frame = read(postgresql, 2).sort_values("id")
    assert frame["id"].iloc[0] == 9007199254740993
    assert frame["name"].iloc[0] == "{}%"
    assert frame.iloc[1].isna().all()


def test_text_as_key(postgresql):
    """A text can be the key, quotes and braces included."""
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute("CREATE TABLE item (id text, name text)")
        conn.execute("INSERT INTO item VALUES ('{a'), ('b''c'), ('d}'), ('%s')")
        types = {"id": "string"}
        with open_table(postgresql, "item", "id", types, 4) as frame:
            found = frame.compute(scheduler="synchronous")
    assert sorted(found["id"]) == sorted(["{a", "b'c", "d}", "%s"])


def test_several_processes_one_snapshot(table, postgresql, cluster):
    """Two worker processes read the rows as they were when the table was opened,
    though all of them are deleted before the first is read."""
    table.execute("INSERT INTO item SELECT n, 'x' FROM generate_series(1, 100) n")
    with open_table(postgresql, "item", "id", TYPES, 4) as frame:
        table.execute("DELETE FROM item")
        assert len(frame.compute()) == 100


def test_after_the_block(table, postgresql):
    """Computed after the block, it is an error, not another state of the table."""
    table.execute("INSERT INTO item VALUES (1, 'x')")
    with open_table(postgresql, "item", "id", TYPES, 2) as frame:
        pass
    with pytest.raises(psycopg.Error, match="snapshot"):
        frame.compute(scheduler="synchronous")


def test_hostile_names(table, postgresql):
    """A table name that holds SQL is the name of no table."""
    with (
        pytest.raises(psycopg.errors.UndefinedTable),
        open_table(postgresql, "item; DROP TABLE item", "id", TYPES, 2),
    ):
        pass


# --8<-- [start:wrong]
def conditions_as_often_copied(conn, count):
    query = "SELECT min(id), max(id) FROM item"
    low, high = conn.execute(query).fetchone()
    step = (high - low) // count
    return [
        f"id BETWEEN {low + n * step} AND {low + (n + 1) * step}" for n in range(count)
    ]


# --8<-- [end:wrong]


def test_often_copied_counts(table):
    """Often copied: rows at the bounds are read twice; those after the last whole step,
    and those without a key, are not read at all."""
    table.execute("INSERT INTO item SELECT n FROM generate_series(1, 100) n")
    table.execute("INSERT INTO item VALUES (NULL)")
    read = [
        number
        for where in conditions_as_often_copied(table, 4)
        for (number,) in table.execute(f"SELECT id FROM item WHERE {where}").fetchall()
    ]
    assert len(read) - len(set(read)) == 3
    assert set(range(1, 101)) - set(read) == {98, 99, 100}
    assert None not in read
