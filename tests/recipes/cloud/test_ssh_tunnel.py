"""ssh_tunnel: to the right bastion and database, and gone with the program."""

import json
import signal
import socket
import subprocess
import sys
import time
import traceback
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from cookbook.engines import process
from recipes.cloud import ssh_tunnel as recipe
from recipes.cloud.ssh_tunnel import connect_through, tunnel

ROOT = Path(__file__).parents[3]


@pytest.fixture
def to(postgresql_tls):
    """Where the database is, as the bastion sees it."""
    at = conninfo_to_dict(postgresql_tls)
    return str(at["host"]), int(str(at["port"]))


@pytest.fixture
def files(sshd):
    found = parse_qs(urlsplit(sshd).query)
    return {name: Path(path) for name, (path,) in found.items()}


@pytest.fixture
def bastion(sshd):
    return f"ssh://{urlsplit(sshd).netloc}"


@pytest.fixture
def server(files):
    """The process of the bastion."""
    state = process.read_state(files["known_hosts"].parent)
    return psutil.Process(int(state["server"]["pid"]))


def wait_until(condition, what):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def is_open(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def clients(port):
    """The processes of ssh that forward that port."""
    found = []
    for one in psutil.process_iter(["name", "cmdline"]):
        words = " ".join(one.info["cmdline"] or [])
        if one.info["name"] == "ssh" and f"127.0.0.1:{port} [" in words:
            found.append(one)
    return found


def test_through_the_tunnel(bastion, to, files, postgresql_tls):
    """A query goes through the tunnel to the database, inside of TLS that was verified
    for the database's own name."""
    with (
        tunnel(bastion, to, **files) as port,
        connect_through(port, postgresql_tls) as conn,
    ):
        assert conn.execute("SELECT 42").fetchone() == (42,)
        assert conn.pgconn.ssl_in_use
        assert (conn.info.host, conn.info.port) == ("localhost", port)
    assert port != to[1]


def test_several_at_once(bastion, to, files, postgresql_tls):
    """Two tunnels at the same time have two ports."""
    with tunnel(bastion, to, **files) as one, tunnel(bastion, to, **files) as two:
        assert one != two
        for port in (one, two):
            connect_through(port, postgresql_tls).close()


def test_only_on_loopback(bastion, to, files):
    """The local port listens on 127.0.0.1, and nowhere else."""
    with tunnel(bastion, to, **files) as port:
        (client,) = clients(port)
        found = [c.laddr for c in client.net_connections() if c.status == "LISTEN"]
        assert [tuple(at) for at in found] == [("127.0.0.1", port)]


def test_another_name(bastion, to, files, postgresql_tls):
    """A database whose certificate does not name the host of the address is refused,
    and an address without TLS does not weaken that."""
    with tunnel(bastion, to, **files) as port:
        other = postgresql_tls.replace("@localhost:", "@db.example.com:")
        with pytest.raises(psycopg.OperationalError, match="does not match host name"):
            connect_through(port, other.replace("verify-full", "disable"))


def test_unknown_host_key(bastion, to, files, tmp_path):
    """A bastion whose key is not in known_hosts is refused, and not added."""
    files["known_hosts"] = tmp_path / "known_hosts"
    with (
        pytest.raises(ConnectionError, match="Host key verification failed"),
        tunnel(bastion, to, **files),
    ):
        pass
    assert not files["known_hosts"].exists()


def test_changed_host_key(bastion, to, files, tmp_path):
    """A bastion whose key has changed is refused."""
    with (
        pytest.raises(ConnectionError, match="IDENTIFICATION HAS CHANGED"),
        tunnel(bastion, to, **{**files, "known_hosts": changed(files, tmp_path)}),
    ):
        pass


def changed(files, folder):
    """known_hosts, with another key for the bastion."""
    key = new_key(folder).with_suffix(".pub").read_text().split()[:2]
    host = files["known_hosts"].read_text().split()[0]
    known = folder / "known_hosts"
    known.write_text(" ".join([host, *key]) + "\n")
    return known


def new_key(folder):
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "key"]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "key"


def test_another_user_key(bastion, to, files, tmp_path):
    """A key that the bastion does not know ends in an error, without a question. The
    error does not show it."""
    key = new_key(tmp_path)
    with (
        pytest.raises(ConnectionError, match="Permission denied") as caught,
        tunnel(bastion, to, **{**files, "identity": key}),
    ):
        pass
    secret = key.read_text().splitlines()[1]
    assert secret not in "".join(traceback.format_exception(caught.value))


def test_path_with_a_space(bastion, to, files, tmp_path):
    """The files of keys may have spaces in their names."""
    folder = tmp_path / "a b"
    folder.mkdir()
    for name, path in files.items():
        files[name] = folder / path.name
        files[name].write_bytes(path.read_bytes())
        files[name].chmod(0o600)
    with tunnel(bastion, to, **files):
        pass


def test_no_bastion(to, files):
    """Where no bastion answers, the error says so."""
    with (
        pytest.raises(ConnectionError, match=r"x@127\.0\.0\.1:1: .*refused"),
        tunnel("ssh://x@127.0.0.1:1", to, **files),
    ):
        pass


def test_silent_bastion(to, files, monkeypatch):
    """A bastion that takes the connection and says nothing is an error in time."""
    monkeypatch.setitem(recipe.OPTIONS, "ConnectTimeout", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        where = f"ssh://x@127.0.0.1:{silent.getsockname()[1]}"
        with (
            pytest.raises(ConnectionError, match="timed out"),
            tunnel(where, to, **files),
        ):
            pass


def test_port_that_is_taken(bastion, to, files, monkeypatch):
    """When another program takes the local port first, there is no tunnel: nobody logs
    in to that program."""
    with socket.create_server(("127.0.0.1", 0)) as taken:

        @contextmanager
        def find(_):
            yield taken

        monkeypatch.setattr(recipe.socket, "create_server", find)
        with (
            pytest.raises(ConnectionError, match="Address already in use"),
            tunnel(bastion, to, **files),
        ):
            pass


def test_ends_with_the_block(bastion, to, files):
    """After the block nothing listens, and no ssh is left; also after an error, which
    comes as it is."""
    with tunnel(bastion, to, **files) as port:
        assert len(clients(port)) == 1
    assert not is_open(port)
    assert clients(port) == []
    with (
        pytest.raises(ZeroDivisionError) as caught,
        tunnel(bastion, to, **files) as port,
    ):
        raise ZeroDivisionError
    assert not is_open(port)
    assert not hasattr(caught.value, "__notes__")


PROGRAM = """
import json, signal, sys
from pathlib import Path
from recipes.cloud.ssh_tunnel import tunnel

bastion, to, files = json.loads(sys.argv[1])
with tunnel(bastion, to, **{name: Path(path) for name, path in files.items()}) as port:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # we may ignore it
    print(port, flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_ends_with_the_program(bastion, to, files, number):
    """A program that is stopped, killed or interrupted leaves no tunnel."""
    asked = json.dumps([bastion, to, {k: str(v) for k, v in files.items()}])
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, asked],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as program:
        port = int(program.stdout.readline())
        assert is_open(port)
        program.send_signal(number)
        program.wait(30)
    wait_until(lambda: not clients(port), "ssh is still there")
    assert not is_open(port)


def end_of(client, server):
    """The bastion ends the session, and ssh notices."""
    shell = client.parent()
    for session in server.children(recursive=True):
        session.kill()
    for one in (client, shell):
        wait_until(lambda: has_ended(one), "ssh is still there")


def has_ended(one):
    try:
        return one.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_dead_tunnel(bastion, to, files, server, postgresql_tls):
    """When the tunnel dies, the error of the database has a note that says so."""

    def work():
        with (
            tunnel(bastion, to, **files) as port,
            connect_through(port, postgresql_tls) as conn,
        ):
            end_of(clients(port)[0], server)
            conn.execute("SELECT 42")

    with pytest.raises(psycopg.OperationalError) as caught:
        work()
    (note,) = caught.value.__notes__
    assert note.startswith(f"the tunnel through {bastion} has ended: ")
    assert "closed" in note


def test_dead_database(bastion, to, files, postgresql_tls):
    """When the bastion cannot reach the database, the tunnel is not blamed."""
    with (
        pytest.raises(
            psycopg.OperationalError, match="closed the connection"
        ) as caught,
        tunnel(bastion, ("127.0.0.1", process.free_port()), **files) as port,
    ):
        connect_through(port, postgresql_tls)
    assert getattr(caught.value, "__notes__", []) == []


def test_nothing_shows_a_secret(bastion, to, files, postgresql_tls, server, capfd):
    """Neither the key nor the password is in a command line, an output or an error."""
    password = str(conninfo_to_dict(postgresql_tls)["password"])
    key = files["identity"].read_text().splitlines()[1]
    shown = []

    def work():
        with (
            tunnel(bastion, to, **files) as port,
            connect_through(port, postgresql_tls) as conn,
        ):
            (client,) = clients(port)
            shown.extend([*client.cmdline(), *client.parent().cmdline(), repr(conn)])
            end_of(client, server)
            conn.execute("SELECT 42")

    with pytest.raises(psycopg.OperationalError) as caught:
        work()
    shown += [*traceback.format_exception(caught.value), *capfd.readouterr()]
    assert password not in " ".join(shown)
    assert key not in " ".join(shown)


# --8<-- [start:wrong]
def open_as_often_copied(bastion, local_port, to, *options):
    check = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    forward = f"{local_port}:{to[0]}:{to[1]}"
    command = ["ssh", "-N", *check, *options, "-L", forward, bastion]
    process = subprocess.Popen(command)
    time.sleep(2)  # let us hope that it is there
    return process


# --8<-- [end:wrong]


@pytest.fixture
def open_wrongly(bastion, files, to, monkeypatch):
    started = []

    def open_one(port):
        options = ["-F", "none", f"-oIdentityFile={files['identity']}"]
        with monkeypatch.context() as patch:
            patch.setattr(time, "sleep", lambda _: None)
            started.append(open_as_often_copied(bastion, port, to, *options))
        return started[-1]

    yield open_one
    for one in started:
        one.kill()
        one.wait()


def test_often_copied_takes_any_bastion(open_wrongly):
    """Often copied: a bastion with any key is used."""
    port = process.free_port()
    open_wrongly(port)
    wait_until(lambda: is_open(port), "the tunnel")


def test_often_copied_reaches_another_program(open_wrongly, capfd):
    """Often copied: the fixed port is taken. ssh goes on without the tunnel, and the
    password goes to whatever listens there."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ssh = open_wrongly(port)
        said = []

        def has_failed():
            said.append(capfd.readouterr().err)
            return "Address already in use" in "".join(said)

        wait_until(has_failed, "a warning")
        assert ssh.poll() is None
        with socket.create_connection(("127.0.0.1", port)) as line:
            line.sendall(b"the password")
            accepted, _ = other.accept()
            with accepted:
                assert accepted.recv(100) == b"the password"


def test_often_copied_outlives_the_program(bastion, to, files):
    """Often copied: the program ends, and its tunnel stays open."""
    port = process.free_port()
    program = (
        "import json, sys; from tests.recipes.cloud import test_ssh_tunnel as it\n"
    )
    program += "it.time.sleep = lambda _: None\n"
    program += "it.open_as_often_copied(*json.loads(sys.argv[1]))"
    program += "\nimport os; os._exit(0)"
    options = ["-F", "none", f"-oIdentityFile={files['identity']}"]
    asked = json.dumps([bastion, port, to, *options])
    subprocess.run(
        [sys.executable, "-c", program, asked],
        cwd=ROOT,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: is_open(port), "the tunnel")
    finally:
        for one in psutil.process_iter(["name", "cmdline"]):
            if f"{port}:{to[0]}:{to[1]}" in (one.info["cmdline"] or []):
                one.kill()
