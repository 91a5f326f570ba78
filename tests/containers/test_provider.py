"""Servers in containers, on a real Docker engine."""

import os
import signal
import subprocess
import sys

import psutil
import pytest
import redis as driver

from cookbook.engines import compose, engine, process
from cookbook.engines.docker import turn
from cookbook.errors import UnavailableError
from cookbook.servers import Servers, sweep


@pytest.fixture(autouse=True)
def _alone():
    """The tests look at all projects of the machine."""
    with turn():
        yield


def projects() -> set[str]:
    """The compose projects that have a container, running or not."""
    command = ["docker", "ps", "--all", "--format"]
    command += ['{{.Label "com.docker.compose.project"}}']
    return {*subprocess.run(command, capture_output=True, text=True).stdout.split()}


def project_of(servers: Servers) -> str:
    (folder,) = servers._folders
    state = process.read_state(folder)
    assert state
    return str(state["project"])


@pytest.fixture
def compose_file(tmp_path, monkeypatch):
    """Change the service of Redis."""

    def change(old: str, new: str) -> None:
        text = compose.COMPOSE_FILE.read_text("utf-8")
        assert old in text
        copy = tmp_path / "docker-compose.yml"
        copy.write_text(text.replace(old, new), "utf-8")
        monkeypatch.setattr(compose, "COMPOSE_FILE", copy)

    return change


def test_two_runs_at_once_do_not_meet_and_leave_nothing():
    runs = [Servers(), Servers()]
    try:
        for run in runs:
            run.start(["redis"], "container")
            assert run.missing == {}
        names = {project_of(run) for run in runs}
        assert names <= projects()
        urls = [run.running["redis"].url for run in runs]
        with (
            driver.Redis.from_url(urls[0]) as one,
            driver.Redis.from_url(urls[1]) as two,
        ):
            one.set("key", "value")
            assert two.get("key") is None
    finally:
        for run in runs:
            run.stop()
    assert not names & projects()


def test_starts_no_service_but_the_one_that_is_asked_for():
    run = Servers()
    try:
        run.start(["redis"], "container")
        command = [
            "docker",
            "ps",
            "--format",
            '{{.Label "com.docker.compose.service"}}',
        ]
        command += ["--filter", f"label=com.docker.compose.project={project_of(run)}"]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.stdout.split() == ["redis"]
    finally:
        run.stop()


def test_a_service_that_is_not_healthy_shows_the_end_of_its_log(compose_file):
    compose_file(
        "command: [redis-server,", "command: [sh, -c, 'echo no disk left; exit 3',"
    )
    run = Servers()
    run.start(["redis"], "container")
    assert "did not get ready" in run.missing["redis"]
    assert "no disk left" in run.missing["redis"]
    run.stop()


def test_a_slow_start_tells_what_it_is_waiting_for(compose_file, monkeypatch, capfd):
    compose_file(
        "command: [redis-server, --requirepass, cook,",
        "command: [sh, -c, 'echo waking up; sleep 4; exec redis-server \"$$@\"', sh,"
        " --protected-mode, 'no', --requirepass, cook,",
    )
    monkeypatch.setattr(compose, "_TELL_EVERY", 1)
    run = Servers()
    try:
        run.start(["redis"], "container")
        assert run.missing == {}
    finally:
        run.stop()
    told = capfd.readouterr().err
    assert "s so far" in told
    assert "waking up" in told


def test_what_a_killed_run_left_is_removed_by_the_next():
    script = (
        "import os, signal\n"
        "from cookbook.servers import Servers\n"
        "servers = Servers()\nservers.start(['redis'], 'container')\n"
        "print(servers.missing, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    before = projects()
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    (left,) = projects() - before
    sweep()
    assert left not in projects()


def test_a_project_that_nobody_knows_is_no_error():
    compose.stop(compose.new_project())


def test_an_engine_without_a_service_is_refused(compose_file):
    compose_file("\n  redis:\n", "\n  valkey:\n")
    with pytest.raises(UnavailableError, match="no service redis"):
        compose.image(engine("redis"))


def test_listens_on_loopback_only():
    run = Servers()
    try:
        run.start(["redis"], "container")
        port = int(run.running["redis"].url.rpartition(":")[2].partition("/")[0])
        ips = {
            found.laddr.ip
            for found in psutil.net_connections("tcp")
            if found.laddr.port == port and found.status == "LISTEN"
        }
        assert ips == {"127.0.0.1"}
    finally:
        run.stop()


def test_says_why_no_container_can_be_started():
    script = "from cookbook.engines import compose; print(compose.why_not())"
    nowhere = {**os.environ, "DOCKER_HOST": "unix:///nonexistent/socket"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=nowhere, capture_output=True, text=True)
    assert "docker info" in done.stdout
