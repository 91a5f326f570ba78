import json
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import urlsplit

import psycopg
import pytest

from recipes.orchestration import airflow_health_dag
from recipes.orchestration.airflow_health_dag import CHECKS, alert, health

pytestmark = [
    pytest.mark.usefixtures("dags"),
    # Airflow's own: dag.test() serves the tasks by Starlette's client for tests.
    pytest.mark.filterwarnings("ignore:Using `httpx` with `starlette.testclient`"),
]


@pytest.fixture
def alerts(monkeypatch):
    """The texts that a service on this machine was sent."""
    texts = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            texts.append(json.loads(body)["text"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("AIRFLOW_VAR_ALERT_URL", address)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        yield texts
        server.shutdown()
        thread.join()


@pytest.fixture
def db(postgresql, monkeypatch, alerts):
    """A connection to the shop, which is the warehouse too; Airflow knows both. The
    newest order is of now."""
    for one in health.tasks:
        monkeypatch.setattr(one, "retry_delay", timedelta(0))
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", postgresql)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", postgresql)
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute("CREATE TABLE orders (placed timestamptz)")
        conn.execute("INSERT INTO orders VALUES (now())")
        yield conn


def run():
    """The state of a run, and those of its checks, with the number of tries."""
    done = health.test()
    tries = {
        it.map_index: (it.state, it.try_number) for it in done.get_task_instances()
    }
    return done.state, [tries[index] for index in sorted(tries)]


def test_all_well(db, alerts):
    """All is well: the run is a success, each check is a task, and nobody is told."""
    assert run() == ("success", [("success", 1)] * len(CHECKS))
    assert alerts == []


def test_failed_check(db, alerts):
    """One check fails: the run has failed, there is one alert that names the check, and
    the other checks ran. An answer that came is not asked for again."""
    db.execute("UPDATE orders SET placed = now() - interval '25 hours'")
    assert run() == ("failed", [("failed", 1), ("success", 1), ("success", 1)])
    text = "shop: an order in the last day: answered (False,)"
    assert alerts == [f"AirflowFailException: {text}"]


def test_no_answer_is_no_success(db, alerts):
    """NULL is not true: an empty table is not fresh."""
    db.execute("DELETE FROM orders")
    assert run()[0] == "failed"
    assert alerts[0].endswith("answered (None,)")


def test_database_is_down(db, alerts, postgresql, fault_proxy, monkeypatch):
    """A database that cannot be reached is tried three times; then there is one alert
    for each of its checks. The other database is checked."""
    proxy = fault_proxy(postgresql)
    proxy.refuse()
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", proxy.url)
    failed = ("failed", 3)
    assert run() == ("failed", [failed, failed, ("success", 1)])
    assert proxy.connections == 6
    assert [text.partition(":")[0] for text in alerts] == ["OperationalError"] * 2


def test_comes_back(db, alerts, postgresql, fault_proxy, monkeypatch):
    """A line that is cut once is tried again: no alert."""
    proxy = fault_proxy(postgresql)
    proxy.cut_before(b"pg_is_in_recovery")
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", proxy.url)
    assert run()[0] == "success"
    assert proxy.was_cut.is_set()
    assert alerts == []


def test_no_password(db, alerts, postgresql, monkeypatch, capfd):
    """The login fails: no alert, log or traceback shows the password."""
    wrong = postgresql.replace(f":{urlsplit(postgresql).password}@", ":s3cret-x@")
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", wrong)
    assert run()[0] == "failed"
    said = "".join(capfd.readouterr())
    assert "password authentication failed" in alerts[0]
    assert "password authentication failed" in said
    assert "s3cret-x" not in said + "".join(alerts)


def test_masked_in_the_alert(db, alerts, postgresql, monkeypatch):
    """An error that quotes the password of a connection goes out with asterisks."""
    wrong = postgresql.replace(f":{urlsplit(postgresql).password}@", ":s3cret-y@")
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", wrong)
    with pytest.raises(psycopg.OperationalError):
        airflow_health_dag.check.function("shop", "", "")
    alert({"exception": ValueError("cannot read postgresql://cook:s3cret-y@db")})
    assert alerts == ["ValueError: cannot read postgresql://cook:***@db"]


def test_limits():
    """The connection, the task and the run have limits of time."""
    assert all(one.retries == 2 and one.execution_timeout for one in health.tasks)
    assert health.dagrun_timeout == timedelta(minutes=10)
    assert health.max_active_runs == 1


# --8<-- [start:wrong]
def check_as_often_copied(url):
    try:
        with psycopg.connect(url) as conn:
            assert conn.execute("SELECT count(*) FROM orders").fetchone()
            print("database is healthy")
    except Exception as error:
        print(f"health check failed for {url}: {error}")


# --8<-- [end:wrong]


def test_often_copied_succeeds(db, postgresql, fault_proxy, capfd):
    """Often copied: the database is down, the task is a success, and the password is in
    the log."""
    proxy = fault_proxy(postgresql)
    proxy.refuse()
    check_as_often_copied(proxy.url)
    assert urlsplit(postgresql).password in capfd.readouterr().out


def test_often_copied_checks_nothing(db, postgresql, capfd):
    """Often copied: a row is always true, also one that says 0: an empty table is
    healthy."""
    db.execute("DELETE FROM orders")
    check_as_often_copied(postgresql)
    assert capfd.readouterr().out == "database is healthy\n"
