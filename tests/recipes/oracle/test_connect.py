"""connect: one string or parts, a limit on the waits, thick mode where it is wanted."""

import contextlib
import os
import socket
import subprocess
import sys
import threading

import oracledb
import pytest

from cookbook.paths import ROOT
from recipes.oracle.connect import connect, use_thick_mode


def who(conn: oracledb.Connection) -> str:
    with conn.cursor() as cursor:
        cursor.execute("SELECT USER FROM dual")
        return cursor.fetchone()[0]


# With a server.


def test_one_string_or_parts(oracle):
    """One string, or user, password and address apart: the same user."""
    user, password, dsn = oracledb.ConnectParams().parse_dsn_with_credentials(oracle)
    with connect(oracle) as one, connect(dsn, user=user, password=password) as other:
        assert who(one) == who(other) == user.upper()


def test_thin_mode(oracle):
    """No Oracle Client is installed, and none is needed."""
    with connect(oracle) as conn:
        assert conn.thin


def test_wrong_password(oracle):
    """A wrong password is ORA-01017, and no second attempt follows."""
    user, _, dsn = oracledb.ConnectParams().parse_dsn_with_credentials(oracle)
    with pytest.raises(oracledb.DatabaseError) as caught:
        connect(dsn, user=user, password="wrong")
    assert caught.value.args[0].code == 1017


def test_statement_is_ended(oracle):
    """A statement ends with DPY-4024 after its limit; the connection is still good."""
    with connect(oracle, call_timeout=0.2) as conn, conn.cursor() as cursor:
        with pytest.raises(oracledb.DatabaseError) as caught:
            cursor.execute("BEGIN DBMS_SESSION.SLEEP(20); END;")
        assert caught.value.args[0].full_code == "DPY-4024"
        conn.call_timeout = 30_000
        assert who(conn)


def test_silent_line_is_ended(oracle, through):
    """The line goes dead under a statement: DPY-4011 after the limit, counted twice."""
    proxy, dsn = through(oracle)
    conn = connect(dsn, call_timeout=0.2)
    proxy.black_hole()
    with pytest.raises(oracledb.DatabaseError) as caught:
        who(conn)
    assert caught.value.args[0].full_code == "DPY-4011"
    assert not conn.is_healthy()


def test_uncommitted_work_is_undone(oracle):
    """The `with` block closes the connection and commits nothing."""
    with connect(oracle) as conn, conn.cursor() as cursor:
        cursor.execute("CREATE TABLE t (n NUMBER)")
        cursor.execute("INSERT INTO t VALUES (1)")
    with connect(oracle) as conn, conn.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM t")
        assert cursor.fetchone() == (0,)


# Without one.


@pytest.mark.parametrize("password", ["p@ss/w#rd", "a:b?c=d", "@", "/", 's p"q', "%40"])
def test_password_of_any_characters(password):
    """In one string a password may hold any character, unquoted: `@`, `/`, `#`, `%`."""
    parse = oracledb.ConnectParams().parse_dsn_with_credentials
    address = "db.example.com:1521/FREEPDB1"
    assert parse(f"cook/{password}@{address}") == ("cook", password, address)


def test_limits_in_the_address_win():
    """What the address itself says wins over the arguments."""
    params = oracledb.ConnectParams(tcp_connect_timeout=5, expire_time=1)
    params.parse_connect_string("db.example.com/shop?transport_connect_timeout=2")
    assert (params.tcp_connect_timeout, params.expire_time) == (2, 1)


def test_nobody_listens(closed_port):
    """Nobody listens: OperationalError at once, DPY-6005; its cause is the system's
    `ConnectionRefusedError`."""
    with pytest.raises(oracledb.OperationalError, match="DPY-6005") as caught:
        connect(closed_port)
    assert isinstance(caught.value.__cause__, ConnectionRefusedError)


def test_unknown_service(listener):
    """A service that the listener does not know: DPY-6005 as well, and the cause is
    DPY-6001, with the name of the service."""
    server = listener()
    with pytest.raises(oracledb.OperationalError, match="DPY-6005") as caught:
        connect(server.dsn)
    cause = caught.value.__cause__
    assert isinstance(cause, oracledb.OperationalError)
    assert cause.args[0].full_code == "DPY-6001"
    assert "FREEPDB1" in str(cause)
    assert "(SERVICE_NAME=FREEPDB1)" in server.asked[0]


def test_silent_address():
    """An address that answers nothing: DPY-6005 after the limit for connecting."""
    with contextlib.ExitStack() as stack:
        busy = stack.enter_context(socket.socket())
        busy.bind(("127.0.0.1", 0))
        busy.listen(0)  # one may wait in line; the system ignores those after it
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(busy.getsockname())
        port = busy.getsockname()[1]
        with pytest.raises(oracledb.OperationalError, match="DPY-6005") as caught:
            connect(f"u/p@127.0.0.1:{port}/shop?transport_connect_timeout=0.2")
    assert isinstance(caught.value.__cause__, TimeoutError)


@pytest.mark.parametrize("limit", [0, 0.0001, -1])
def test_limit_of_nothing(limit):
    """A limit of 0 means none to the driver: ValueError before it connects."""
    with pytest.raises(ValueError, match="wait for ever"):
        connect("u/p@host.invalid/shop", call_timeout=limit)


def test_limits_reach_the_socket(listener, monkeypatch):
    """The attempt to connect is given 5 seconds, and the line is probed after a quiet
    minute."""
    real, seen = socket.create_connection, []

    def create_connection(address, timeout):
        seen.append((real(address, timeout), timeout))
        return seen[-1][0]

    monkeypatch.setattr(socket, "create_connection", create_connection)
    server = listener()
    server.silent = True
    thread = threading.Thread(target=fail_to_connect, args=(server.dsn,))
    thread.start()
    assert server.has_asked.wait(5)
    ((sock, timeout),) = seen
    assert timeout == 5
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
    server.close()
    thread.join(5)


def fail_to_connect(dsn: str) -> None:
    with pytest.raises(oracledb.DatabaseError):
        connect(dsn)


def test_login_has_no_limit(listener):
    """A server that accepts and then says nothing is waited for: no limit covers the
    login."""
    server = listener()
    server.silent = True
    failed = threading.Event()

    def log_in() -> None:
        with pytest.raises(oracledb.DatabaseError):
            connect(f"{server.dsn}?transport_connect_timeout=0.05", call_timeout=0.05)
        failed.set()

    thread = threading.Thread(target=log_in)
    thread.start()
    assert server.has_asked.wait(5)
    assert not failed.wait(0.5)  # ten times either limit
    server.close()
    thread.join(5)
    assert failed.is_set()


FIRST_HANGS = """
import sys, threading, oracledb
from recipes.oracle.connect import connect
silent, closed, thin = sys.argv[1:]
if thin == "True":
    oracledb.enable_thin_mode()
threading.Thread(target=connect, args=(silent,), daemon=True).start()
sys.stdin.readline()  # until the first one hangs
failed = threading.Event()
def second():
    try:
        connect(closed)
    except oracledb.OperationalError:
        failed.set()
threading.Thread(target=second, daemon=True).start()
print(failed.wait(10 if thin == "True" else 0.5))
"""


@pytest.mark.parametrize("thin", [True, False])
def test_first_connection_holds_up_the_others(listener, closed_port, thin):
    """While the first connection of a process hangs, every other one waits for it,
    unless `enable_thin_mode` was called."""
    server = listener()
    server.silent = True
    process = subprocess.Popen(
        [sys.executable, "-c", FIRST_HANGS, server.dsn, closed_port, str(thin)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert server.has_asked.wait(20)
        said, _ = process.communicate("\n", timeout=20)
    assert said.strip() == str(thin)


WITHOUT_CLIENT = """
import oracledb
from recipes.oracle.connect import use_thick_mode
try:
    use_thick_mode()
except oracledb.DatabaseError as error:
    print(error.args[0].full_code, "libclntsh" in str(error), oracledb.is_thin_mode())
"""


def test_thick_mode_without_client():
    """Thick mode without Oracle Client: DatabaseError, DPI-1047, and the library it
    looked for."""
    # A new process, where neither mode has been chosen and no client is to be found.
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CLIENT],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "DPI-1047 True True", done.stderr


def test_thick_mode_comes_too_late():
    """Thick mode after thin mode is in use: ProgrammingError, DPY-2019."""
    with pytest.raises(oracledb.ProgrammingError, match="DPY-2019"):
        use_thick_mode()


# --8<-- [start:wrong]
def connect_as_copied(host, port, service, user, password):
    dsn = oracledb.makedsn(host, port, service)
    try:
        return oracledb.connect(user=user, password=password, dsn=dsn)
    except oracledb.Error as error:
        print("Error connecting to the database:", error)


# --8<-- [end:wrong]


def test_often_copied_asks_for_a_sid(listener, capsys):
    """Often copied: the third argument of `makedsn` is a SID, so the listener knows
    nothing of it: DPY-6003."""
    server = listener()
    connect_as_copied("127.0.0.1", server.port, "FREEPDB1", "cook", "cook")
    assert "(SID=FREEPDB1)" in server.asked[0]
    assert "DPY-6003" in capsys.readouterr().out


def test_often_copied_returns_none(closed_port, capsys):
    """Often copied: the error is printed, and the caller gets None for a connection."""
    port = closed_port.partition(":")[2].partition("/")[0]
    assert connect_as_copied("127.0.0.1", int(port), "shop", "cook", "cook") is None
    assert "DPY-6005" in capsys.readouterr().out
