# /// script
# requires-python = ">=3.11"
# dependencies = ["apache-airflow>=3.3", "psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Check databases in parallel with an Airflow 3 DAG.

Each check is a task of its own, made by mapping. One that fails fails the run and sends
an alert; the others run all the same. Use it where Airflow is there already.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any
from urllib.request import Request, urlopen

import psycopg
from airflow.sdk import Connection, Variable, dag, task
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.log import mask_secret, redact

# --8<-- [start:dag]
# Each query answers true where all is well.
FRESH = "SELECT max(placed) > now() - interval '1 day' FROM orders"
PRIMARY = "SELECT NOT pg_is_in_recovery()"
CHECKS = [
    {"conn_id": "shop", "name": "an order in the last day", "query": FRESH},
    {"conn_id": "shop", "name": "is the primary", "query": PRIMARY},
    {"conn_id": "warehouse", "name": "is the primary", "query": PRIMARY},
]


def alert(context: Mapping[str, Any]) -> None:
    """Tell what failed, once the last try has failed. Airflow calls it."""
    error = context["exception"]
    text = redact(f"{type(error).__name__}: {error}")
    request = Request(
        Variable.get("alert_url"),
        data=json.dumps({"text": text}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urlopen(request, timeout=10):
        pass


@task(max_active_tis_per_dagrun=8)
def check(conn_id: str, name: str, query: str) -> None:
    """Raises AirflowFailException, which is not retried, if the answer is not true."""
    found = Connection.get(conn_id)
    mask_secret(found.password)
    options = "-c statement_timeout=10s"
    with psycopg.connect(found.get_uri(), connect_timeout=5, options=options) as conn:
        row = conn.execute(query).fetchone()
    if row != (True,):
        raise AirflowFailException(f"{conn_id}: {name}: answered {row}")


@dag(
    schedule="*/15 * * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=timedelta(minutes=10),
    default_args={
        "retries": 2,
        "retry_delay": timedelta(seconds=20),
        "execution_timeout": timedelta(minutes=1),
        "on_failure_callback": alert,
    },
)
def database_health() -> None:
    check.expand_kwargs(CHECKS)


health = database_health()
# --8<-- [end:dag]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)
TEST = """
from airflow.__main__ import main
from airflow_health_dag import health

main()  # airflow db migrate
health.test()
"""


class Receiver(BaseHTTPRequestHandler):
    """Stands for the service that takes the alerts."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        print("alert:", json.loads(body)["text"])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with psycopg.connect(url, connect_timeout=5) as conn:
        conn.execute("CREATE TABLE orders (placed timestamptz)")
        conn.execute("INSERT INTO orders VALUES ('2026-01-05 08:00Z')")
    with TemporaryDirectory() as home, HTTPServer(("127.0.0.1", 0), Receiver) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        env = {"AIRFLOW_HOME": home, "AIRFLOW__CORE__DAGS_FOLDER": __file__}
        env |= {"AIRFLOW_CONN_SHOP": url, "AIRFLOW_CONN_WAREHOUSE": url}
        env["AIRFLOW_VAR_ALERT_URL"] = f"http://127.0.0.1:{server.server_port}"
        subprocess.run(
            [sys.executable, "-c", TEST, "db", "migrate"],
            env=os.environ | env,
            cwd=Path(__file__).parent,
            check=True,
            capture_output=True,
        )
        server.shutdown()


if __name__ == "__main__":
    main()
