import json
import signal
import subprocess
import sys
import time

import mssql_python
import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError

from recipes.sqlserver import connect_with_entra_token

BOTH = pytest.mark.parametrize(
    "recipe",
    ["connect_with_entra_token", "connect_with_entra_token_pyodbc"],
    indirect=True,
)


@pytest.fixture
def recipe(request, with_pyodbc):
    return with_pyodbc(request.param)


class Issuer:
    """A credential that gives each of its tokens once, then the last one again."""

    def __init__(self, *tokens):
        self.tokens, self.scopes = list(tokens), []

    def get_token(self, *scopes):
        self.scopes += scopes
        token = self.tokens.pop(0) if len(self.tokens) > 1 else self.tokens[0]
        return AccessToken(token, int(time.time()) + 3600)


def sent(server):
    """The tokens that came, as texts."""
    return [login["token"].decode("utf-16-le") for login in server.logins]


# --8<-- [start:use]
def open_connection(dsn):
    from azure.identity import DefaultAzureCredential

    credential = DefaultAzureCredential()  # once for the process
    return connect_with_entra_token.connect(dsn, credential)


# --8<-- [end:use]


def test_azure_identity(listener, monkeypatch):
    """It takes the credentials of azure-identity as they are."""
    from azure.identity import DefaultAzureCredential

    issuer = Issuer("eyJ0.e30.")
    monkeypatch.setattr(DefaultAzureCredential, "get_token", issuer.get_token)
    server = listener(names=["localhost"])
    open_connection(server.dsn).close()
    assert sent(server) == ["eyJ0.e30."]


@BOTH
@pytest.mark.parametrize("length", [1, 2000, 5000])
def test_the_token_arrives(listener, recipe, length):
    """The token arrives as it is, also a long one, and nothing behind it."""
    token = ("eyJ0." + "x" * length)[:length]
    server = listener(names=["localhost"])
    recipe.connect(server.dsn, Issuer(token)).close()
    assert sent(server) == [token]


@BOTH
def test_no_password(listener, recipe):
    """User and password of the connection string are not sent along."""
    server = listener(names=["localhost"])
    assert "PWD=" in server.dsn
    recipe.connect(server.dsn, Issuer("t")).close()
    assert (server.logins[0]["user"], server.logins[0]["password"]) == ("", "")


@BOTH
@pytest.mark.parametrize(
    ("dsn", "rest"),
    [
        ("Server=a;UID=b;PWD={c;Server=x}}y};Encrypt=yes", "Server=a;Encrypt=yes"),
        (" Server = a ; uid = b;Database={d;UID=e}", "Server=a ;Database={d;UID=e}"),
        ("Authentication=ActiveDirectoryMsi;Server=a;", "Server=a"),
        ("Trusted_Connection=yes;Server=a", "Server=a"),
    ],
)
def test_without_login(recipe, dsn, rest):
    """The login alone is taken out, whatever its password holds."""
    assert recipe.without_login(dsn) == rest


@BOTH
def test_a_fresh_token_each_time(listener, recipe):
    """Each connection asks the credential, so each has the token of its hour."""
    server, issuer = listener(names=["localhost"]), Issuer("first", "second")
    for _ in range(2):
        recipe.connect(server.dsn, issuer).close()
    assert sent(server) == ["first", "second"]
    assert issuer.scopes == ["https://database.windows.net/.default"] * 2


def test_pool_keeps_people_apart(listener):
    """The pool of mssql-python: the same token, the same connection; another token,
    another connection."""
    server = listener(names=["localhost"])
    issuer = Issuer("anna", "anna", "ben")
    mssql_python.pooling()
    try:
        for _ in range(3):
            connect_with_entra_token.connect(server.dsn, issuer).close()
    finally:
        mssql_python.pooling(enabled=False)
    assert sent(server) == ["anna", "ben"]


def test_pyodbc_does_not_pool(with_pyodbc):
    """In pyodbc the pool is off: the manager's pool knows connection strings only."""
    recipe = with_pyodbc("connect_with_entra_token_pyodbc")
    assert recipe.pyodbc.pooling is False


@BOTH
def test_no_token(listener, recipe):
    """A credential without a token: its error arrives, and nobody was asked."""

    class Nobody:
        def get_token(self, *scopes):
            raise ClientAuthenticationError("no identity here")

    server = listener(names=["localhost"])
    with pytest.raises(
        (mssql_python.OperationalError, ClientAuthenticationError), match="no identity"
    ):
        recipe.connect(server.dsn, Nobody())
    assert server.logins == []


def test_length_in_bytes(with_pyodbc):
    """The length counts bytes, four of them, the smallest first."""
    pack = with_pyodbc("connect_with_entra_token_pyodbc").pack
    assert pack("abc") == b"\x06\x00\x00\x00a\x00b\x00c\x00"
    assert pack("x" * 40_000)[:4] == b"\x80\x38\x01\x00"


def test_unknown_certificate(listener):
    """The token goes to no server whose certificate cannot be verified."""
    server = listener(names=["localhost"])
    dsn = server.dsn.replace("TrustServerCertificate=yes", "")
    with pytest.raises(mssql_python.OperationalError, match="certificate verify"):
        connect_with_entra_token.connect(dsn, Issuer("t"))
    assert server.logins == []


@BOTH
def test_server_refuses(sqlserver, recipe):
    """A token that nobody issued is refused by the server."""
    error = getattr(recipe, "pyodbc", mssql_python).Error
    with pytest.raises(error):
        recipe.connect(sqlserver, Issuer("eyJ0eXAiOiJKV1QifQ.e30."))


# --8<-- [start:wrong]
def connect_as_often_copied(dsn, token):
    import pyodbc

    attrs = {1256: token.encode("utf-16-le")}
    return pyodbc.connect(dsn, attrs_before=attrs)


# --8<-- [end:wrong]

VICTIM = """
import json, sys
sys.path.insert(0, ".")
from tests.recipes.sqlserver.test_connect_with_entra_token import (
    connect_as_often_copied,
)
connect_as_often_copied(*json.load(sys.stdin)).close()
"""


def test_often_copied_reads_foreign_memory(listener, with_pyodbc):
    """Often copied: no length, so the token's first letters are taken for it; the
    driver sends megabytes of the program's memory to the server, or crashes."""
    driver = with_pyodbc("connect_with_entra_token_pyodbc").DRIVER
    server = listener(names=["localhost"])
    dsn = driver + server.dsn.replace("UID=cook;PWD=secret;", "")
    done = subprocess.run(
        [sys.executable, "-c", VICTIM],
        input=json.dumps([dsn, "eyJ0eXAiOiJKV1QifQ.e30."]),
        capture_output=True,
        text=True,
        timeout=60,
    )
    crashed = done.returncode in (-signal.SIGSEGV, -signal.SIGBUS, -signal.SIGABRT)
    leaked = [len(login["token"]) for login in server.logins]
    assert crashed or leaked == [0x0079_0065]  # "ey" in UTF-16, read as a number
    assert int.from_bytes("ey".encode("utf-16-le"), "little") == 0x0079_0065


def test_often_copied_text(listener):
    """Often copied: the token as a text is refused by mssql-python."""
    with pytest.raises(mssql_python.InterfaceError, match="must be supplied as bytes"):
        mssql_python.connect("Server=127.0.0.1,1", attrs_before={1256: "eyJ0"})
