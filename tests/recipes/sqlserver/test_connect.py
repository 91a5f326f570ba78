import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress

import mssql_python
import pytest
from mssql_python.connection_string_parser import _ConnectionStringParser

from recipes.sqlserver.connect import connect, connection_string

BOTH = pytest.mark.parametrize("recipe", ["connect", "connect_pyodbc"], indirect=True)
ANYWHERE = ("127.0.0.1", "cookbook", "cook", "secret")
HOSTILE = [
    "p;Encrypt=no",
    "p;Encrypt=no}",
    "{braced}",
    "}",
    "}}",
    "{{a}b;c={d}}",
    "a=b",
    " leading and trailing ",
    "\ttab\t",
    "'single' \"double\"",
    "p@ss:w/ord?#%41&+",
    "é€\N{SLIGHTLY SMILING FACE}\N{CJK UNIFIED IDEOGRAPH-20000}",
]


@pytest.fixture
def recipe(request, with_pyodbc):
    return with_pyodbc(request.param)


def errors(recipe):
    return getattr(recipe, "pyodbc", mssql_python).OperationalError


@pytest.mark.parametrize("value", HOSTILE)
def test_quotes_every_value(value):
    """Each value comes out of the driver's own parser as it went in."""
    dsn = connection_string(value, value, value, value, ServerSPN=value)
    assert _ConnectionStringParser(validate_keywords=True)._parse(dsn) == {
        "server": value,
        "database": value,
        "uid": value,
        "pwd": value,
        "encrypt": "yes",
        "serverspn": value,
    }


@BOTH
@pytest.mark.parametrize("value", HOSTILE)
def test_any_password(listener, recipe, value):
    """A password of any characters arrives as it is, and turns nothing off."""
    server = listener(names=["localhost"])
    dsn = recipe.connection_string(
        f"127.0.0.1,{server.port}", value, value, value, TrustServerCertificate="yes"
    )
    recipe.connect(dsn).close()
    (login,) = server.logins
    assert [login[it] for it in ("database", "user", "password")] == [value] * 3


@BOTH
@pytest.mark.parametrize("value", ["", "a\0b"])
def test_impossible_value(recipe, value):
    """An empty value, and one with a NUL, is refused before anybody is asked."""
    with pytest.raises(ValueError, match="PWD"):
        recipe.connection_string("db.example.com", "shop", "shop", value)


@BOTH
def test_unknown_certificate(listener, recipe):
    """A certificate of an unknown authority: refused, and no password was sent."""
    server = listener(names=["localhost"])
    dsn = recipe.connection_string(f"localhost,{server.port}", "d", "u", "p")
    with pytest.raises(errors(recipe), match="certificate verify failed"):
        recipe.connect(dsn)
    assert server.logins == []


@BOTH
def test_known_authority(listener, recipe, authority, tmp_path, monkeypatch):
    """With the authority among those that OpenSSL trusts, the same server is let in."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    server = listener(names=["localhost"])
    dsn = recipe.connection_string(f"localhost,{server.port}", "d", "u", "p")
    recipe.connect(dsn).close()
    assert len(server.logins) == 1


@BOTH
@pytest.mark.parametrize("names", [["db.example.com"], ["127.0.0.1"]])
def test_other_name(listener, recipe, authority, tmp_path, monkeypatch, names):
    """A certificate for another name is refused, and so is one for an IP address; the
    name to expect can be given."""
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    server = listener(names=names)
    parts = (f"127.0.0.1,{server.port}", "d", "u", "p")
    with pytest.raises(errors(recipe), match="does not match host name"):
        recipe.connect(recipe.connection_string(*parts))
    assert server.logins == []
    if names == ["db.example.com"]:
        expected = {"HostnameInCertificate": "db.example.com"}
        recipe.connect(recipe.connection_string(*parts, **expected)).close()
        assert len(server.logins) == 1


@BOTH
def test_no_encryption_is_an_error(listener, recipe):
    """A server that offers no encryption is refused, and no password was sent."""
    server = listener()
    dsn = recipe.connection_string(f"127.0.0.1,{server.port}", "d", "u", "p")
    with pytest.raises(errors(recipe), match="Encryption not supported"):
        recipe.connect(dsn)
    assert server.logins == []


@BOTH
def test_refused(recipe):
    """Where nobody listens, the driver tries until the login timeout is over."""
    dsn = recipe.connection_string("127.0.0.1,1", "d", "u", "p")
    started = time.monotonic()
    with pytest.raises(errors(recipe)):
        recipe.connect(dsn, login_timeout=1)
    assert 0.9 < time.monotonic() - started < 3


@BOTH
def test_silent_server(listener, recipe):
    """A server that takes the connection and says nothing is given up on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        port = silent.getsockname()[1]
        dsn = recipe.connection_string(f"127.0.0.1,{port}", "d", "u", "p")
        started = time.monotonic()
        with pytest.raises(errors(recipe)):
            recipe.connect(dsn, login_timeout=1)
        assert 0.9 < time.monotonic() - started < 3


@BOTH
def test_query_timeout(listener, recipe):
    """A statement that takes too long is an error, and the server is told to stop."""

    def answer(text):
        if "WAITFOR" in text:
            server.stalled.set()
            return b""
        return None

    server = listener(answer)
    server.stalled = threading.Event()
    conn = recipe.connect(server.dsn, query_timeout=1)
    with pytest.raises(errors(recipe), match=r"[Tt]imeout expired"):
        conn.execute("WAITFOR DELAY '00:10'")
    conn.close()
    assert server.stalled.is_set()
    assert server.attentions == 1


def test_typing_error():
    """A keyword with a typing error is an error too, not a keyword left out."""
    with pytest.raises(mssql_python.ConnectionStringParseError, match="encrpyt"):
        connect(connection_string(*ANYWHERE, Encrpyt="no"))


@pytest.mark.parametrize("recipe", ["connect"], indirect=True)
def test_with_commits(listener, recipe):
    """With mssql-python, `with` commits, and rolls back after an error."""
    server = listener()
    with recipe.connect(server.dsn) as conn:
        conn.execute("INSERT once")
    with suppress(KeyError), recipe.connect(server.dsn) as conn:
        conn.execute("INSERT twice")
        raise KeyError
    assert [it for it in server.requests if it != "BEGIN"] == [
        "INSERT once",
        "COMMIT",
        "INSERT twice",
        "ROLLBACK",
    ]


def test_encrypted(sqlserver):
    """The server says that the line is encrypted."""
    with connect(sqlserver) as conn:
        cursor = conn.execute(
            "SELECT encrypt_option FROM sys.dm_exec_connections"
            " WHERE session_id = @@SPID"
        )
        assert cursor.fetchval() == "TRUE"


@BOTH
def test_wrong_password(sqlserver, recipe):
    """A wrong password is an error of the login."""
    server = _ConnectionStringParser()._parse(sqlserver)["server"]
    parts = (server, "master", "sa", "wrong;}")
    dsn = recipe.connection_string(*parts, TrustServerCertificate="yes")
    with pytest.raises(
        getattr(recipe, "pyodbc", mssql_python).Error, match="Login failed"
    ):
        recipe.connect(dsn)


def test_without_unixodbc():
    """On a machine without unixODBC the pyodbc recipe says what to install."""
    code = "import sys; sys.modules['pyodbc'] = None; import recipes.sqlserver."
    done = subprocess.run(
        [sys.executable, "-c", f"{code}connect_pyodbc"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "apt-get install unixodbc" in done.stderr


# --8<-- [start:wrong]
def connect_as_often_copied(server, database, user, password):
    import pyodbc

    return pyodbc.connect(
        "Driver={ODBC Driver 18 for SQL Server};"
        f"Server={server};Database={database};UID={user};PWD={password};"
        "TrustServerCertificate=yes"
    )


# --8<-- [end:wrong]


def test_often_copied_gives_the_password_to_anybody(listener, with_pyodbc):
    """Often copied: TrustServerCertificate=yes; whoever answers gets the password."""
    server = listener(names=["attacker.example"])
    connect_as_often_copied(f"127.0.0.1,{server.port}", "d", "u", "secret").close()
    assert server.logins[0]["password"] == "secret"


def test_often_copied_password_turns_encryption_off(listener, with_pyodbc):
    """Often copied: with `;Encrypt=no` in it, the password travels in the clear."""
    server = listener()  # it offers no encryption
    parts = (f"127.0.0.1,{server.port}", "d", "u")
    connect_as_often_copied(*parts, "p;Encrypt=no").close()
    assert server.logins[0]["password"] == "p"


def test_often_copied_error_shows_the_password():
    """Often copied: in mssql-python, a `;` puts the password's end into the error."""
    with pytest.raises(mssql_python.ConnectionStringParseError, match="tail"):
        mssql_python.connect("Server=127.0.0.1,1;UID=u;PWD=head;tail;Encrypt=yes")


def test_often_copied_misspelt_argument(listener):
    """Often copied: keywords as arguments; a misspelt one is left out in silence."""
    server = listener()
    plain = {"server": f"127.0.0.1,{server.port}", "uid": "u", "pwd": "p"}
    mssql_python.connect(Encrypt="no", DataBase_="shop", **plain).close()
    assert server.logins[0]["database"] == ""


def test_often_copied_waits_for_ever(listener):
    """Often copied: without `conn.timeout` there is no limit for a statement."""
    server = listener()
    conn = mssql_python.connect(server.dsn, timeout=1)
    assert conn.timeout == 0
    conn.close()
