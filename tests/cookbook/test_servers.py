"""Servers are found, started, shared and removed, whatever happens."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cookbook import servers
from cookbook.engines import ENGINES, engine, process
from cookbook.engines.base import Address, Program, new_name, without_password
from cookbook.errors import UnavailableError, UnknownNameError
from cookbook.servers import Servers

REDIS_TEST = """\
import time

def test_it(redis):
    \"\"\"It waits.\"\"\"
    open("{flag}", "w").close()
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _alone(open_folder, monkeypatch):
    """A directory for servers that no other run looks into."""
    monkeypatch.setenv("TMPDIR", str(open_folder))
    monkeypatch.setattr("tempfile.tempdir", None)  # it reads the variable again
    for one in ENGINES.values():
        monkeypatch.delenv(one.env, raising=False)


@pytest.fixture
def redis():
    """A server of our own."""
    started = Servers()
    started.start(["redis"])
    yield started
    started.stop()


def only_process() -> psutil.Process:
    """The process of the one server below this test's directory."""
    ((_, state),) = process.states()
    return psutil.Process(int(state["server"]["pid"]))


def test_starts_shares_and_removes(redis):
    server = redis.running["redis"]
    assert server.provider == "embedded"
    redis.start(["redis"])  # again: the same
    assert redis.running["redis"] == server
    started = only_process()
    redis.stop()
    assert list(process.base_folder().iterdir()) == []
    assert not started.is_running()


def test_listens_on_loopback_only_and_hides_its_password(redis):
    found = only_process()
    listening = [c.laddr.ip for c in found.net_connections() if c.status == "LISTEN"]
    assert listening == ["127.0.0.1"]
    password = redis.running["redis"].url.partition("@")[0].rpartition(":")[2]
    assert password not in " ".join(found.cmdline())
    state = process.base_folder().glob("*/state.json")
    assert [path.stat().st_mode & 0o077 for path in state] == [0]


def test_a_place_is_empty_and_its_own(redis):
    import redis as driver

    server, one = redis.running["redis"], engine("redis")
    places = [one.create_place(server, new_name()) for _ in range(3)]
    assert len(set(places)) == 3
    with driver.Redis.from_url(places[0]) as client:
        client.set("key", "value")
    with driver.Redis.from_url(places[1]) as client:
        assert client.get("key") is None
    for place in places:
        one.drop_place(server, place)
    with driver.Redis.from_url(places[0]) as client:
        assert client.dbsize() == 0


def test_a_server_whose_owner_was_killed_is_swept():
    script = (
        "import os, signal\n"
        "from cookbook.servers import Servers\n"
        "servers = Servers()\nservers.start(['redis'])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script])
    ((left, state),) = process.states()
    assert process.is_alive(state["server"])
    servers.sweep()
    assert not left.exists()
    assert not process.is_alive(state["server"])


def test_works_in_memory_where_there_is_room(monkeypatch):
    monkeypatch.delenv("TMPDIR")
    monkeypatch.setattr(process, "_ROOM", 0)
    in_memory, on_disk = process._base_folders()
    if not os.access(in_memory.parent, os.W_OK):
        pytest.skip(f"{in_memory.parent} is not here, or not to be written to")
    assert process.base_folder() == in_memory
    monkeypatch.setattr(process, "_ROOM", 1 << 60)
    assert process.base_folder() == on_disk


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("workers", ["-n0", "-n2"])
def test_nothing_is_left_when_pytest_is_interrupted(checkout, number, workers):
    flag = checkout.root / "flag"
    checkout.write("recipes/redis/wait.py", '"""Wait."""\n')
    test = REDIS_TEST.format(flag=flag)
    checkout.write("tests/recipes/redis/test_wait.py", test)
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", "tests/recipes/redis", workers],
        cwd=checkout.root,
        env=checkout.environment({}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not flag.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert flag.exists()
    family = psutil.Process(run.pid).children(recursive=True)
    assert any("valkey" in child.name() for child in family)
    if number == signal.SIGINT:  # Ctrl-C reaches the whole group of the terminal
        os.killpg(run.pid, number)
    else:
        run.send_signal(number)
    run.wait(timeout=30)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert [child for child in alive if child.status() != "zombie"] == []
    assert list((checkout.root / "tmp").glob("cookbook-*/*")) == []


def test_a_server_that_does_not_start_says_why(monkeypatch):
    broken = type(engine("redis"))()
    command = ["sh", "-c", "echo the disk is full; echo redis://:hunter2@x; exit 3"]
    monkeypatch.setattr(broken, "command", lambda *_: command)
    folder = process.new_folder("redis")
    with pytest.raises(UnavailableError) as caught:
        process.start(broken, Program(Path("/bin/sh"), "sh 1"), folder)
    assert "Redis did not start (/bin/sh, sh 1)" in str(caught.value)
    assert "the disk is full" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    process.stop(folder, {})


def test_a_port_that_is_taken_is_tried_again(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([taken.getsockname()[1], process.free_port()])
        monkeypatch.setattr(process, "free_port", lambda: next(ports))
        started = Servers()
        started.start(["redis"])
        try:
            assert "redis" in started.running
        finally:
            started.stop()


def test_an_address_in_the_environment_wins(redis, monkeypatch):
    monkeypatch.setenv("REDIS_URL", redis.running["redis"].url)
    other = Servers()
    other.start(["redis"])
    assert other.running["redis"].provider == "external"
    assert other.running["redis"].url == redis.running["redis"].url
    other.stop()  # it is not ours to stop
    assert engine("redis").identify(redis.running["redis"].url)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("redis", "redis://:hunter2@127.0.0.1:1/0"),
        ("postgresql", "postgresql://cook:hunter2@127.0.0.1:1/x"),
        ("mysql", "mysql://cook:hunter2@127.0.0.1:1/x"),
    ],
)
def test_a_refused_address_is_one_line(name, address, monkeypatch):
    monkeypatch.setenv(engine(name).env, address)
    with pytest.raises(UnavailableError) as caught:
        servers.choose(engine(name))
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(f"{engine(name).env} is set, but {engine(name).title}")
    assert "Check the address, or unset" in said
    assert "hunter2" not in said


@pytest.fixture(scope="module")
def real_servers():
    """PostgreSQL, MySQL and Redis; whichever can be had."""
    started = Servers()
    started.start(["postgresql", "mysql", "redis"])
    yield started
    started.stop()


@pytest.mark.parametrize("fault", ["password", "database"])
@pytest.mark.parametrize("name", ["postgresql", "mysql", "redis"])
def test_a_wrong_password_or_database_is_one_line(
    real_servers, name, fault, monkeypatch
):
    if name not in real_servers.running:
        pytest.skip(real_servers.missing[name])
    address = real_servers.running[name].url
    password = address.partition("@")[0].rpartition(":")[2]
    if fault == "password":
        address = address.replace(password, "hunter2")
    else:
        address = address.rpartition("/")[0] + "/9999"
    monkeypatch.setenv(engine(name).env, address)
    with pytest.raises(UnavailableError) as caught:
        servers.choose(engine(name))
    assert "\n" not in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert password not in str(caught.value)


@pytest.mark.parametrize("name", ["postgresql", "mysql"])
def test_a_place_is_removed_with_what_is_open_in_it(real_servers, name):
    if name not in real_servers.running:
        pytest.skip(real_servers.missing[name])
    server, one = real_servers.running[name], engine(name)
    place = one.create_place(server, new_name())
    if name == "postgresql":
        import psycopg

        with psycopg.connect(place, autocommit=True) as slot:
            make = "SELECT pg_create_logical_replication_slot(%s, 'pgoutput', true)"
            slot.execute(make, (new_name(),))
            with psycopg.connect(place) as conn:
                conn.execute("CREATE TABLE t (i int)")
                conn.commit()
                conn.tpc_begin(conn.xid(1, new_name(), "b"))
                conn.execute("INSERT INTO t VALUES (1)")
                conn.tpc_prepare()
                conn.close()
            started = time.monotonic()
            one.drop_place(server, place)
    else:
        import pymysql

        from cookbook.engines.mysql import _connect

        conn = _connect(place)
        conn.autocommit(False)
        with conn.cursor() as cursor:
            cursor.execute("CREATE TABLE t (i int)")
            cursor.execute("INSERT INTO t VALUES (1)")  # holds a lock
        started = time.monotonic()
        one.drop_place(server, place)
        with pytest.raises(pymysql.err.Error):
            conn.ping(reconnect=False)
    assert time.monotonic() - started < 10


def test_an_unknown_provider_names_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean embedded"):
        servers.forced_provider("embeded")


@pytest.mark.parametrize("name", [n for n, e in ENGINES.items() if e.port])
def test_what_is_not_there_says_what_to_install(name, monkeypatch):
    one = engine(name)
    monkeypatch.setattr(type(one), "embedded", lambda self: None)
    monkeypatch.setattr(type(one), "native", lambda self: None)
    monkeypatch.setattr("cookbook.engines.compose.why_not", lambda: "no docker")
    with pytest.raises(UnavailableError) as caught:
        servers.choose(one)
    assert one.install in str(caught.value)
    assert one.env in str(caught.value)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("mysql://cook:p%40ss@host:1/x", "mysql://cook:***@host:1/x"),
        ("redis://:s3cret@host, refused", "redis://:***@host, refused"),
        ("cook/s3cret@127.0.0.1:1521/FREEPDB1", "cook/***@127.0.0.1:1521/FREEPDB1"),
        ("UID=sa;PWD={s3;}}cret};Encrypt=yes", "UID=sa;PWD=***;Encrypt=yes"),
        ("HOSTNAME=x;PWD=s3cret;", "HOSTNAME=x;PWD=***;"),
        ("no password in /tmp/a@b:1/c", "no password in /tmp/a@b:1/c"),
    ],
)
def test_passwords_are_hidden(text, hidden):
    assert without_password(text) == hidden


@pytest.mark.parametrize("one", ENGINES.values(), ids=lambda one: one.name)
def test_an_address_is_what_its_variables_say(one, monkeypatch):
    variables = one.variables(one.example)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    address = one.external()
    assert address
    said = {name: value for name, value in one.variables(address).items() if value}
    assert said.items() <= variables.items()  # an administrator's names no place
    assert one.env in said


def test_an_address_hides_its_password_in_tracebacks():
    address = Address("redis://:hunter2@127.0.0.1:1/0")
    assert "hunter2" in address
    assert "hunter2" not in repr({"REDIS_URL": address})
