"""connect: what the driver does with a string, a certificate, and a silent server."""

import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import ibm_db_dbi
import pytest
import trustme

from recipes.db2.connect import connect, connect_verified, connection_string
from tests.recipes.support.drda import Login
from tests.recipes.support.fault_proxy import FaultProxy

PASSWORD = "correct horse battery staple"


def string_for(port: int, **keywords: str) -> str:
    """A connection string for a server on this machine that plays localhost."""
    return connection_string(
        DATABASE="SHOP",
        HOSTNAME="localhost",
        PORT=port,
        **({"UID": "cook", "PWD": PASSWORD} | keywords),
    )


@pytest.fixture
def silent():
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


# On a server.


def test_connects(dsn):
    """It connects, and sees its own schema and limits."""
    with closing(connect(dsn, lock_wait=7)) as conn:
        cursor = conn.cursor()
        cursor.execute("VALUES (CURRENT SCHEMA, CURRENT LOCK TIMEOUT)")
        schema, lock_wait = cursor.fetchone()
    assert f"CURRENTSCHEMA={schema};" in dsn
    assert lock_wait == 7


def test_no_autocommit(dsn):
    """Nothing is stored until commit(): close() throws the rest away."""
    with closing(connect(dsn)) as conn:
        conn.cursor().execute("CREATE TABLE note (id INTEGER NOT NULL)")
        conn.commit()
        conn.cursor().execute("INSERT INTO note VALUES (1)")
    with closing(connect(dsn)) as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT COUNT(*) FROM note")
        assert tuple(cursor.fetchone()) == (0,)


def test_answer_in_time(dsn):
    """A server that falls silent is given up after answer_timeout."""
    parts = dict(part.split("=", 1) for part in dsn.split(";") if part)
    upstream = f"tcp://{parts['HOSTNAME']}:{parts['PORT']}"
    with FaultProxy(upstream) as proxy:
        there = connection_string(HOSTNAME=proxy.host, PORT=proxy.port)
        conn = connect(there + dsn, answer_timeout=1)
        proxy.black_hole()
        with pytest.raises(ibm_db_dbi.Error, match="SQL30081N"):
            conn.cursor().execute("VALUES 1")
        proxy.reset_all()


# Without one: the driver itself, against servers that the test plays.


def test_refused(free_port):
    """Nobody listens: OperationalError with SQL30081N, and no wait."""
    with pytest.raises(ibm_db_dbi.OperationalError, match="SQL30081N"):
        connect(string_for(free_port), connect_timeout=100)


def test_silent_server(silent):
    """A server that takes the connection and says nothing: OperationalError in time."""
    with pytest.raises(ibm_db_dbi.OperationalError, match="selectForRecvTimeout"):
        connect(string_for(silent), connect_timeout=1)


def test_long_limit_in_the_string_is_overruled(silent):
    """CONNECTTIMEOUT in somebody's connection string does not make the wait longer."""
    patient = "CONNECTTIMEOUT=100;RECEIVETIMEOUT=100;" + string_for(silent)
    started = time.monotonic()
    with pytest.raises(ibm_db_dbi.OperationalError, match="selectForRecvTimeout"):
        connect(patient, connect_timeout=1)
    assert time.monotonic() - started < 50


@pytest.mark.parametrize("name", ["connect_timeout", "answer_timeout", "lock_wait"])
def test_no_limit_is_refused(name):
    """A limit of 0 is a ValueError, before anything is sent."""
    with pytest.raises(ValueError, match="for ever"):
        connect("HOSTNAME=localhost;", **{name: 0})


@pytest.mark.parametrize(
    "password",
    ["a=b", "{a}b", 'a"b', '"ab"', "'ab'", "a b", "a,b!@()[]*?\\%&", "x" * 100, "ä€"],
)
def test_carried_as_it_is(play, password):
    """Quotes, braces, equals signs and inner blanks reach the server as they are."""
    impostor = play()
    with pytest.raises(ibm_db_dbi.OperationalError, match="SQL30082N"):
        connect(string_for(impostor.port, PWD=password))
    assert impostor.logins == [Login("SHOP", "cook", password)]


@pytest.mark.parametrize("value", ["a;b", '"a;b"', "{a;b}", " ab", "ab ", "", "a\0b"])
@pytest.mark.parametrize("keyword", ["DATABASE", "UID", "PWD"])
def test_not_carried(keyword, value):
    """A semicolon, quoted or not, a blank at an end, a control character, an empty
    value: ValueError, and the message does not show the value."""
    with pytest.raises(ValueError, match=f"this {keyword}$"):
        connection_string(**{keyword: value})


def test_verified(play, ca, ca_file):
    """TLS: the server with the right signer and name is given the password."""
    impostor = play(ca.issue_cert("localhost"))
    with pytest.raises(ibm_db_dbi.OperationalError, match="SQL30082N"):
        connect_verified(string_for(impostor.port), ca_file)
    assert impostor.logins == [Login("SHOP", "cook", PASSWORD)]


def test_strange_signer(play, ca_file):
    """TLS: an impostor with the right name, signed by itself, gets nothing."""
    impostor = play(trustme.CA().issue_cert("localhost"))
    with pytest.raises(ibm_db_dbi.OperationalError, match=r'"SSL".*"414"'):
        connect_verified(string_for(impostor.port), ca_file)
    assert (impostor.connections, impostor.logins) == (1, [])


def test_certificate_of_someone_else(play, ca, ca_file):
    """TLS: an impostor with a valid certificate of another host gets nothing."""
    impostor = play(ca.issue_cert("attacker.example"))
    with pytest.raises(ibm_db_dbi.OperationalError, match=r"SQL20576N.*localhost"):
        connect_verified(string_for(impostor.port), ca_file)
    assert (impostor.connections, impostor.logins) == (1, [])


def test_address_in_place_of_a_name(play, ca, ca_file):
    """TLS: an address is a name like any other; the certificate must hold it."""
    impostor = play(ca.issue_cert("localhost"))
    both = play(ca.issue_cert("localhost", "127.0.0.1"))
    with pytest.raises(ibm_db_dbi.OperationalError, match="SQL20576N"):
        connect_verified("HOSTNAME=127.0.0.1;" + string_for(impostor.port), ca_file)
    with pytest.raises(ibm_db_dbi.OperationalError, match="SQL30082N"):
        connect_verified("HOSTNAME=127.0.0.1;" + string_for(both.port), ca_file)
    assert (len(impostor.logins), len(both.logins)) == (0, 1)


def test_no_tls(play, ca_file):
    """TLS: a server without it gets nothing."""
    impostor = play(None)
    with pytest.raises(ibm_db_dbi.OperationalError, match=r'SQL30081N.*"SSL"'):
        connect_verified(string_for(impostor.port), ca_file)
    assert impostor.logins == []


@pytest.mark.parametrize(
    "weak", ["SECURITY=OFF", "SSLCLIENTHOSTNAMEVALIDATION=OFF", "Security=none"]
)
def test_weak_string_is_overruled(play, ca, ca_file, weak):
    """TLS: what somebody's connection string switches off is on."""
    impostor = play(ca.issue_cert("attacker.example"))
    with pytest.raises(ibm_db_dbi.OperationalError, match="SQL20576N"):
        connect_verified(f"{weak};{string_for(impostor.port)}", ca_file)
    assert impostor.logins == []


def test_missing_certificate_file(play, tmp_path):
    """TLS: without the file of the authority nothing is even connected to."""
    impostor = play(None)
    with pytest.raises(ibm_db_dbi.DatabaseError, match="CLI0157E"):
        connect_verified(string_for(impostor.port), tmp_path / "ca.pem")
    assert impostor.connections == 0


def test_name_check_can_be_switched_off(play, ca, ca_file):
    """SSLClientHostnameValidation=OFF lets a valid certificate of another host in."""
    impostor = play(ca.issue_cert("attacker.example"))
    weak = f"SECURITY=SSL;SSLSERVERCERTIFICATE={ca_file};"
    weak += "SSLCLIENTHOSTNAMEVALIDATION=OFF;"
    with pytest.raises(ibm_db_dbi.OperationalError, match="SQL30082N"):
        ibm_db_dbi.connect(weak + string_for(impostor.port), "", "")
    assert impostor.logins == [Login("SHOP", "cook", PASSWORD)]


def test_name_check_of_this_version(play, ca, ca_file):
    """The driver of version 12.1 checks the name also where nothing is said of it."""
    impostor = play(ca.issue_cert("attacker.example"))
    silent_about_it = f"SECURITY=SSL;SSLSERVERCERTIFICATE={ca_file};"
    with pytest.raises(ibm_db_dbi.OperationalError, match="SQL20576N"):
        ibm_db_dbi.connect(silent_about_it + string_for(impostor.port), "", "")
    assert impostor.logins == []


def test_server_encrypt(play):
    """Without TLS, AUTHENTICATION=SERVER_ENCRYPT keeps the password from a server that
    wants it in clear text."""
    impostor = play(only_in_clear=True)
    with pytest.raises(ibm_db_dbi.OperationalError, match="SQL30082N"):
        connect("AUTHENTICATION=SERVER_ENCRYPT;" + string_for(impostor.port))
    assert (impostor.connections, impostor.logins) == (1, [])


@pytest.mark.parametrize(("retries", "attempts"), [(None, 3), ("0", 1)])
def test_driver_tries_again(play, monkeypatch, retries, attempts):
    """Left alone, the driver tries three times in 5 s; DB2_MAX_CLIENT_CONNRETRIES=0 in
    the environment makes it one."""
    impostor = play(trustme.CA().issue_cert("localhost"))
    code = (
        "import ibm_db_dbi, sys\n"
        "try: ibm_db_dbi.connect(sys.argv[1], '', '')\n"
        "except ibm_db_dbi.OperationalError: pass"
    )
    if retries is None:
        monkeypatch.delenv("DB2_MAX_CLIENT_CONNRETRIES")
    dsn = f"SECURITY=SSL;{string_for(impostor.port)}"
    subprocess.run([sys.executable, "-c", code, dsn], check=True)
    assert impostor.connections == attempts


# --8<-- [start:wrong]
def connect_as_copied(host, port, user, password, options="SECURITY=SSL"):
    return ibm_db_dbi.connect(
        f"DATABASE=SHOP;HOSTNAME={host};PORT={port};PROTOCOL=TCPIP;"
        f"UID={user};PWD={password};{options};ConnectionTimeout=10;",
        "",
        "",
    )


# --8<-- [end:wrong]


def test_often_copied_cuts_the_password(play):
    """Often copied: of a password with a semicolon the first part is sent."""
    impostor = play()
    with pytest.raises(ibm_db_dbi.OperationalError, match="SQL30082N"):
        connect_as_copied("localhost", impostor.port, "cook", "correct;horse", "")
    assert impostor.logins == [Login("SHOP", "cook", "correct")]


def test_often_copied_lets_a_password_switch_tls_off(play):
    """Often copied: what follows the semicolon is a keyword, and switches TLS off."""
    impostor = play(None)
    with pytest.raises(ibm_db_dbi.OperationalError, match="SQL30082N"):
        connect_as_copied("localhost", impostor.port, "cook", "x;SECURITY=OFF")
    assert impostor.logins == [Login("SHOP", "cook", "x")]


def test_often_copied_misspelt(play):
    """Often copied: SECURITY=TLS is no error. It means no TLS, and the password goes
    out in clear text."""
    impostor = play(None)
    with pytest.raises(ibm_db_dbi.OperationalError, match="SQL30082N"):
        connect_as_copied("localhost", impostor.port, "cook", PASSWORD, "SECURITY=TLS")
    assert impostor.logins == [Login("SHOP", "cook", PASSWORD)]


def test_often_copied_without_tls(play):
    """Often copied, without TLS: the driver offers to encrypt the password, and sends
    it in clear text to whoever declines."""
    polite, impostor = play(only_in_clear=False), play(only_in_clear=True)
    for server in (polite, impostor):
        with pytest.raises(ibm_db_dbi.OperationalError, match="SQL30082N"):
            connect_as_copied("localhost", server.port, "cook", PASSWORD, "")
    assert polite.logins == [Login("SHOP", None, None)]
    assert impostor.logins == [Login("SHOP", "cook", PASSWORD)]


def test_often_copied_waits_for_ever(silent):
    """Often copied: ConnectionTimeout is no keyword of this driver. It still waits when
    ConnectTimeout=1, which began later, has given up."""
    ended = threading.Event()
    with FaultProxy(f"tcp://127.0.0.1:{silent}") as proxy:

        def wait_as_copied() -> None:
            with pytest.raises(ibm_db_dbi.OperationalError):
                connect_as_copied(
                    proxy.host, proxy.port, "cook", "x", "ConnectionTimeout=1"
                )
            ended.set()

        thread = threading.Thread(target=wait_as_copied)
        thread.start()
        while not proxy.connections:
            assert thread.is_alive()
        with pytest.raises(ibm_db_dbi.OperationalError, match="selectForRecvTimeout"):
            connect(string_for(silent), connect_timeout=1)
        assert not ended.is_set()
        proxy.reset_all()
        thread.join(10)
        assert ended.is_set()


def test_the_file_may_have_a_relative_name(play, ca, ca_file, monkeypatch):
    """The authority's file may be named from the current directory."""
    monkeypatch.chdir(ca_file.parent)
    impostor = play(ca.issue_cert("localhost"))
    with pytest.raises(ibm_db_dbi.OperationalError, match="SQL30082N"):
        connect_verified(string_for(impostor.port), Path(ca_file.name))
    assert len(impostor.logins) == 1
