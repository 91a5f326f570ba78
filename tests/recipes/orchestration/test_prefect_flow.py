import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from urllib.parse import urlsplit

import psycopg
import pytest
from prefect import flow, get_client, task
from prefect.client.schemas.filters import FlowRunFilter, LogFilter
from prefect.flow_engine import run_flow
from prefect.states import Scheduled

from recipes.orchestration.prefect_flow import (
    SCHEMA,
    connect,
    copy_orders,
    load_sales,
    sum_up,
)

DAY = date(2026, 1, 5)


def server(test):
    """For a test that needs Prefect's server: the first one waits until it is up."""
    return pytest.mark.usefixtures("prefect_server")(pytest.mark.timeout(300)(test))


@pytest.fixture
def db(postgresql, monkeypatch):
    """A connection to the shop, which is the warehouse too."""
    monkeypatch.setenv("SHOP_URL", postgresql)
    monkeypatch.setenv("WAREHOUSE_URL", postgresql)
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute(SCHEMA)
        yield conn


@pytest.fixture
def no_delay(monkeypatch):
    for one in (copy_orders, sum_up):
        monkeypatch.setattr(one, "retry_delay_seconds", 0)


@pytest.fixture
def client(prefect_server):
    with get_client(sync_client=True) as client:
        yield client


def order(db, number, placed, amount):
    query = "INSERT INTO orders VALUES (%s, %s, %s)"
    db.execute(query, (number, placed, Decimal(amount)))


def load(day):
    """What the flow does, without the server."""
    return sum_up.fn(day, copy_orders.fn(day))


def sales(db):
    return [number for (number,) in db.execute("SELECT id FROM sale ORDER BY id")]


def sums(db):
    return db.execute("SELECT day::text, orders, amount FROM sales_of_day").fetchall()


def until(look, found):
    """Look again until that is found: logs and tasks' states arrive a moment later."""
    end = time.monotonic() + 60
    while not found(seen := look()):
        assert time.monotonic() < end, seen
        time.sleep(0.05)
    return seen


def wait_for_tasks(client, state, expected):
    """Wait until that is stored of the run: each task's state, and how often it was
    tried."""
    run = {"id": {"any_": [state.state_details.flow_run_id]}}

    def look():
        return {
            one.name.rpartition("-")[0]: (one.state and one.state.name, one.run_count)
            for one in client.read_task_runs(flow_run_filter=FlowRunFilter(**run))
        }

    until(look, lambda seen: seen == expected)


def logs(client, state, text):
    """All that the run logged, as soon as that text is in it."""
    run = {"flow_run_id": {"any_": [state.state_details.flow_run_id]}}

    def look():
        return "\n".join(one.message for one in client.read_logs(LogFilter(**run)))

    return until(look, lambda seen: text in seen)


def test_one_day(db, monkeypatch):
    """A run loads its day, from midnight to midnight UTC, the end not included, in
    whatever time zone its session is."""
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    order(db, 1, "2026-01-04 23:59:59.999999Z", "1")
    order(db, 2, "2026-01-05 00:00Z", "10.10")
    order(db, 3, "2026-01-06 01:59:59+02", "0.20")
    order(db, 4, "2026-01-06 00:00Z", "4")
    assert load(DAY) == Decimal("10.30")
    assert sales(db) == [2, 3]
    assert sums(db) == [("2026-01-05", 2, Decimal("10.30"))]


def test_again(db):
    """A second run of the same day changes nothing; what was corrected in the shop, or
    removed there, is corrected."""
    order(db, 1, "2026-01-05 12:00Z", "10")
    order(db, 2, "2026-01-05 13:00Z", "20")
    load(DAY)
    before = sales(db), sums(db)
    load(DAY)
    assert (sales(db), sums(db)) == before
    db.execute("DELETE FROM orders WHERE id = 1")
    db.execute("UPDATE orders SET amount = 25 WHERE id = 2")
    load(DAY)
    assert sums(db) == [("2026-01-05", 1, Decimal(25))]


def test_backfill(db):
    """An earlier day that is loaded later leaves the other days alone."""
    order(db, 1, "2026-01-05 12:00Z", "10")
    order(db, 2, "2026-01-06 12:00Z", "20")
    load(date(2026, 1, 6))
    db.execute("DELETE FROM orders WHERE id = 2")
    load(DAY)
    assert sales(db) == [1, 2]
    assert [row[0] for row in sums(db)] == ["2026-01-06", "2026-01-05"]


def test_day_without_orders(db):
    """A day without orders is a row with 0, not a day that is missing."""
    assert load(DAY) == 0
    assert sums(db) == [("2026-01-05", 0, 0)]


def test_two_at_once(db, postgresql):
    """Two runs of the same day at the same time: one waits for the other, and each row
    is there once."""
    order(db, 1, "2026-01-05 12:00Z", "10")
    load(DAY)
    waiting = (
        "SELECT count(*) FROM pg_locks WHERE NOT granted"
        " AND relation = 'sale'::regclass"
        " AND database ="
        " (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    with ThreadPoolExecutor(2) as pool:
        with psycopg.connect(postgresql) as other:
            other.execute("LOCK TABLE sale IN SHARE ROW EXCLUSIVE MODE")
            both = [pool.submit(copy_orders.fn, DAY) for _ in range(2)]
            until(lambda: db.execute(waiting).fetchone(), lambda seen: seen == (2,))
            assert sales(db) == [1]  # readers do not wait
        assert [one.result(timeout=60) for one in both] == [1, 1]
    assert sales(db) == [1]


def test_rows_that_are_missing(db):
    """Fewer sales than were copied: an error, and the sums stay as they were."""
    order(db, 1, "2026-01-05 12:00Z", "10")
    load(DAY)
    db.execute("DELETE FROM sale")
    with pytest.raises(ValueError, match="2026-01-05: 1 copied, 0 found"):
        sum_up.fn(DAY, 1)
    assert sums(db) == [("2026-01-05", 1, Decimal(10))]


def test_limits(db):
    """Each task has retries and a timeout; a connection and a statement of PostgreSQL
    have a timeout too."""
    for one in (copy_orders, sum_up):
        assert (one.retries, one.timeout_seconds) == (3, 1800)
        assert one.retry_delay_seconds == [10, 60, 300]
    with connect("SHOP_URL") as conn:
        assert conn.info.get_parameters()["connect_timeout"] == "5"
        assert conn.execute("SHOW statement_timeout").fetchone() == ("10min",)


def test_address_with_a_mistake(monkeypatch):
    """A `%` in the password that is not written `%25`: the error names the variable,
    and no part of the address."""
    monkeypatch.setenv("SHOP_URL", "postgresql://cook:s3cret%x@db.example.com/shop")
    with pytest.raises(ValueError, match="SHOP_URL is not the address") as caught:
        connect("SHOP_URL")
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


@server
def test_flow(db, client):
    """The tasks hand on their results; Prefect stores the day, and nothing else."""
    order(db, 1, "2026-01-05 12:00Z", "10.50")
    state = load_sales("2026-01-05", return_state=True)
    assert state.is_completed()
    assert state.result() == Decimal("10.50")
    done = {"copy_orders": ("Completed", 1), "sum_up": ("Completed", 1)}
    wait_for_tasks(client, state, done)
    run = client.read_flow_run(state.state_details.flow_run_id)
    assert run.parameters == {"day": "2026-01-05"}


@server
def test_scheduled_day(db, client):
    """A run that starts late, or months later, loads the day before the one for which
    it was scheduled."""
    order(db, 1, "2026-01-05 12:00Z", "10")
    planned = Scheduled(scheduled_time=datetime(2026, 1, 6, 0, 30, tzinfo=UTC))
    run = client.create_flow_run(load_sales, state=planned)
    assert run_flow(load_sales, flow_run=run) == 10
    assert [row[0] for row in sums(db)] == ["2026-01-05"]


@server
def test_failure(db, client, no_delay):
    """A row that is refused: the task is not tried again, the next one does not run,
    the flow has failed, and the rows of before are there."""
    order(db, 1, "2026-01-05 12:00Z", "10")
    load(DAY)
    order(db, 2, "2026-01-05 13:00Z", "-1")
    db.execute("ALTER TABLE sale ADD CHECK (amount > 0)")
    state = load_sales(DAY, return_state=True)
    assert state.is_failed()
    assert "CheckViolation" in state.message
    wait_for_tasks(client, state, {"copy_orders": ("Failed", 1)})
    assert sales(db) == [1]
    assert sums(db) == [("2026-01-05", 1, Decimal(10))]


@server
def test_retry(db, client, postgresql, fault_proxy, monkeypatch, no_delay):
    """The commit is done, and the line is cut before its answer: the task is tried
    again, and each row is there once."""
    proxy = fault_proxy(postgresql)
    monkeypatch.setenv("WAREHOUSE_URL", proxy.url)
    proxy.cut_answer_to(b"COMMIT")
    order(db, 1, "2026-01-05 12:00Z", "10")
    state = load_sales(DAY, return_state=True)
    assert proxy.was_cut.is_set()
    done = {"copy_orders": ("Completed", 2), "sum_up": ("Completed", 1)}
    wait_for_tasks(client, state, done)
    assert sums(db) == [("2026-01-05", 1, Decimal(10))]


@server
def test_no_password(db, client, postgresql, monkeypatch, no_delay, capfd):
    """The login fails, four times: the password is in no log, in no state's message and
    in no parameter."""
    wrong = postgresql.replace(f":{urlsplit(postgresql).password}@", ":s3cret-x@")
    monkeypatch.setenv("SHOP_URL", wrong)
    state = load_sales(DAY, return_state=True)
    assert "password authentication failed" in state.message
    wait_for_tasks(client, state, {"copy_orders": ("Failed", 4)})
    logged = logs(client, state, "Finished in state Failed")
    assert "Retry 3/3" in logged
    run = client.read_flow_run(state.state_details.flow_run_id)
    stored = f"{logged} {state!r} {run.model_dump_json()} {capfd.readouterr()}"
    assert "s3cret-x" not in stored


# --8<-- [start:wrong]
@task(retries=3)
def add_sales(url: str, day: date):
    with psycopg.connect(url) as conn:
        conn.execute(
            "INSERT INTO sales_of_day SELECT %s, count(*), sum(amount) FROM orders"
            " WHERE placed::date = %s ON CONFLICT (day) DO UPDATE SET"
            " amount = sales_of_day.amount + excluded.amount",
            (day, day),
        )


@flow
def load_as_often_copied(url: str):
    add_sales(url, datetime.now().date() - timedelta(days=1))


# --8<-- [end:wrong]


@server
def test_often_copied_adds_twice(db, postgresql, fault_proxy):
    """Often copied: a retry of a task that adds. The commit was done, its answer lost:
    the day's amount is double, and the run is a success."""
    today = datetime.now()
    order(db, 1, today - timedelta(days=1), "10")
    order(db, 2, today, "10")  # yesterday's, if midnight comes now
    proxy = fault_proxy(postgresql)
    proxy.cut_answer_to(b"COMMIT")
    assert load_as_often_copied(proxy.url, return_state=True).is_completed()
    assert [row[2] for row in sums(db)] == [Decimal(20)]


@server
def test_often_copied_stores_the_password(db, client, postgresql):
    """Often copied: the address as a parameter. Prefect stores it with the run, and
    shows it, with the password."""
    state = load_as_often_copied(postgresql, return_state=True)
    run = client.read_flow_run(state.state_details.flow_run_id)
    assert urlsplit(postgresql).password in run.parameters["url"]


@server
def test_often_copied_loads_another_day(db, client, postgresql):
    """Often copied: the clock. A run that was scheduled for 6 January loads the day
    before today, and its own day is missing."""
    order(db, 1, "2026-01-05 12:00Z", "10")
    planned = Scheduled(scheduled_time=datetime(2026, 1, 6, 0, 30, tzinfo=UTC))
    run = client.create_flow_run(
        load_as_often_copied, parameters={"url": postgresql}, state=planned
    )
    run_flow(load_as_often_copied, flow_run=run, parameters=run.parameters)
    assert "2026-01-05" not in [row[0] for row in sums(db)]
