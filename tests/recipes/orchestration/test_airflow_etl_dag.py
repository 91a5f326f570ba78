import inspect
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import urlsplit

import psycopg
import pytest
from airflow.sdk import Connection, dag, task

from recipes.orchestration.airflow_etl_dag import SCHEMA, etl

pytestmark = [
    pytest.mark.usefixtures("dags"),
    # Airflow's own: dag.test() serves the tasks by Starlette's client for tests.
    pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`"),
]


@pytest.fixture
def db(postgresql, monkeypatch):
    """A connection to the shop, which is the warehouse too; Airflow knows both."""
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", postgresql)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", postgresql)
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute(SCHEMA)
        yield conn


@pytest.fixture
def no_retries(monkeypatch):
    for one in etl.tasks:
        monkeypatch.setattr(one, "retries", 0)


def order(db, number, placed, amount):
    query = "INSERT INTO orders VALUES (%s, %s, %s)"
    db.execute(query, (number, placed, Decimal(amount)))


def load(day):
    """Run the DAG for that day of January; return its state and those of its tasks."""
    midnight = datetime(2026, 1, day, tzinfo=UTC)
    return states(etl.test(logical_date=midnight + timedelta(days=1)))


def states(run):
    return run.state, {one.task_id: one.state for one in run.get_task_instances()}


def sales(db):
    return [number for (number,) in db.execute("SELECT id FROM sale ORDER BY id")]


def sums(db):
    return db.execute("SELECT day::text, orders, amount FROM sales_of_day").fetchall()


def test_one_day(db):
    """A run loads its day, from midnight to midnight UTC, the end not included."""
    order(db, 1, "2026-01-04 23:59:59.999999Z", "1")
    order(db, 2, "2026-01-05 00:00Z", "10.10")
    order(db, 3, "2026-01-06 01:59:59+02", "0.20")
    order(db, 4, "2026-01-06 00:00Z", "4")
    assert load(5)[0] == "success"
    assert sales(db) == [2, 3]
    assert sums(db) == [("2026-01-05", 2, Decimal("10.30"))]


def test_again(db):
    """A second run of the same day changes nothing; what was corrected in the shop, or
    removed there, is corrected."""
    order(db, 1, "2026-01-05 12:00Z", "10")
    order(db, 2, "2026-01-05 13:00Z", "20")
    load(5)
    before = sales(db), sums(db)
    load(5)
    assert (sales(db), sums(db)) == before
    db.execute("DELETE FROM orders WHERE id = 1")
    db.execute("UPDATE orders SET amount = 25 WHERE id = 2")
    load(5)
    assert sums(db) == [("2026-01-05", 1, Decimal(25))]


def test_backfill(db):
    """An earlier day that is loaded later leaves the other days alone."""
    order(db, 1, "2026-01-05 12:00Z", "10")
    order(db, 2, "2026-01-06 12:00Z", "20")
    load(6)
    db.execute("DELETE FROM orders WHERE id = 2")
    load(5)
    assert sales(db) == [1, 2]
    assert [row[0] for row in sums(db)] == ["2026-01-06", "2026-01-05"]


def test_day_without_orders(db):
    """A day without orders is a row with 0, not a day that is missing."""
    assert load(5)[0] == "success"
    assert sums(db) == [("2026-01-05", 0, 0)]


def test_failure_leaves_the_old_rows(db, no_retries):
    """A task that fails in the middle leaves what was there before; the next task does
    not run, and the run has failed."""
    order(db, 1, "2026-01-05 12:00Z", "10")
    load(5)
    order(db, 2, "2026-01-05 13:00Z", "-1")
    db.execute("ALTER TABLE sale ADD CHECK (amount > 0)")
    failed = {"copy_orders": "failed", "sum_up": "upstream_failed"}
    assert load(5) == ("failed", failed)
    assert sales(db) == [1]
    assert sums(db) == [("2026-01-05", 1, Decimal(10))]


def test_retry(db, postgresql, fault_proxy, monkeypatch):
    """The line is cut while a task loads: the task is tried again, and each row is
    there once."""
    for one in etl.tasks:
        monkeypatch.setattr(one, "retry_delay", timedelta(0))
    proxy = fault_proxy(postgresql)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", proxy.url)
    proxy.cut_before(b"COPY sale")
    order(db, 1, "2026-01-05 12:00Z", "10")
    assert load(5)[0] == "success"
    assert proxy.was_cut.is_set()
    assert sums(db) == [("2026-01-05", 1, Decimal(10))]


def test_no_interval(db, monkeypatch):
    """Started by hand in Airflow 3, a run may have no date: it fails at once, without a
    retry, and deletes nothing."""
    order(db, 1, "2026-01-05 12:00Z", "10")
    load(5)
    for one in etl.tasks:
        monkeypatch.setattr(one, "retry_delay", timedelta(0))
    run = etl.test(logical_date=None)
    (copy,) = (it for it in run.get_task_instances() if it.task_id == "copy_orders")
    assert (copy.state, copy.try_number) == ("failed", 1)
    assert sales(db) == [1]


def test_limits():
    """Each task has retries and a timeout, the run has one too, and there is one run
    at a time."""
    assert all(one.retries == 3 and one.execution_timeout for one in etl.tasks)
    assert etl.dagrun_timeout == timedelta(hours=2)
    assert etl.max_active_runs == 1
    assert etl.start_date.tzinfo


def test_parsing_connects_to_nothing(dags, monkeypatch):
    """Airflow reads the file every few seconds: that opens no connection."""
    from airflow.dag_processing.dagbag import DagBag

    monkeypatch.setattr(psycopg, "connect", None)
    monkeypatch.delenv("AIRFLOW_CONN_SHOP", raising=False)
    bag = DagBag(dags / "airflow_etl_dag.py")
    assert bag.import_errors == {}
    assert list(bag.dags) == ["sales_etl"]


def test_no_password(db, postgresql, no_retries, monkeypatch, capfd):
    """The login fails: neither the log nor the traceback shows the password."""
    wrong = postgresql.replace(f":{urlsplit(postgresql).password}@", ":s3cret-x@")
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", wrong)
    assert load(5)[0] == "failed"
    out, err = capfd.readouterr()
    assert "password authentication failed" in out + err
    assert "s3cret-x" not in out + err


# --8<-- [start:wrong]
@dag(schedule="@daily", start_date=datetime(2026, 1, 1, tzinfo=UTC))
def load_as_often_copied():
    @task
    def load(data_interval_start=None, data_interval_end=None):
        uri = Connection.get("warehouse").get_uri()
        with psycopg.connect(uri) as conn:
            conn.execute(
                "INSERT INTO sale SELECT * FROM orders"
                " WHERE placed >= %s AND placed < %s",
                (data_interval_start, data_interval_end),
            )

    load()


# --8<-- [end:wrong]


def test_often_copied_loads_nothing(db, dags):
    """Often copied: in Airflow 3 the interval of `@daily` begins and ends at the same
    moment. Nothing is loaded, and every run is a success."""
    imports = "from datetime import UTC, datetime\nfrom airflow.sdk import dag, task\n"
    source = inspect.getsource(load_as_often_copied.__wrapped__)
    copy = dags / "copied.py"
    copy.write_text(f"{imports}\n{source}\nload_as_often_copied()\n")
    try:
        order(db, 1, "2026-01-05 12:00Z", "10")
        run = load_as_often_copied().test(logical_date=datetime(2026, 1, 5, tzinfo=UTC))
    finally:
        copy.unlink()
    assert run.state == "success"
    assert run.data_interval_start == run.data_interval_end
    assert sales(db) == []


def test_often_copied_import():
    """Often copied: `airflow.operators.python` still works, and warns."""
    from airflow.utils.deprecation_tools import DeprecatedImportWarning

    with pytest.warns(DeprecatedImportWarning):
        from airflow.operators.python import PythonOperator  # noqa: F401
