"""What the tests of this chapter share.

A SQL Server cannot run everywhere. What the drivers do by themselves is tested against
a listener that speaks their protocol, so those tests need no server.
"""

import importlib
import os
import ssl
import subprocess
import sys
from contextlib import closing

import mssql_python
import pytest
import trustme

from cookbook.paths import ROOT
from tests.recipes.support.tds_listener import TdsListener

mssql_python.pooling(enabled=False)  # a connection is a login, and ends with its test

DRIVER = "ODBC Driver 18 for SQL Server"


@pytest.fixture(scope="session")
def authority():
    """An authority that nobody trusts, unless told to."""
    return trustme.CA()


@pytest.fixture
def listener(authority):
    """Make a listener; closed after the test."""
    listeners = []

    def make(answer=lambda text: None, *, names=()) -> TdsListener:
        tls = None
        if names:
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            tls.maximum_version = ssl.TLSVersion.TLSv1_2
            authority.issue_cert(*names).configure_cert(tls)
        listeners.append(TdsListener(answer, tls))
        return listeners[-1]

    yield make
    for one in listeners:
        one.close()


@pytest.fixture
def connections():
    """Open connections to an address; closed after the test, and rolled back."""
    opened = []

    def connect(dsn, **options):
        opened.append(mssql_python.connect(dsn, timeout=5, **options))
        opened[-1].timeout = 30
        return opened[-1]

    yield connect
    for conn in opened:
        conn.close()


@pytest.fixture
def query():
    """Run one statement on an address, commit, and return its rows as tuples."""

    def run(dsn, sql, *args):
        with closing(mssql_python.connect(dsn, autocommit=True, timeout=5)) as conn:
            cursor = conn.execute(sql, *args)
            return (
                [tuple(row) for row in cursor.fetchall()] if cursor.description else []
            )

    return run


@pytest.fixture
def elsewhere():
    """Run code in a process of its own, and return what it prints.

    Bulk copy keeps every other thread waiting, the listener's included.
    """

    def run(code, *args):
        done = subprocess.run(
            [sys.executable, "-c", code, *args],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture(scope="session")
def with_pyodbc(tmp_path_factory):
    """Import a recipe that uses pyodbc, and let it find a driver.

    Where no driver 18 is installed, the one that mssql-python brings is registered for
    this process alone.
    """
    pytest.importorskip(
        "pyodbc",
        reason="pyodbc needs unixODBC: apt-get install unixodbc",
        exc_type=ImportError,
    )
    # In a process of its own: unixODBC reads where its file is but once.
    ask = [sys.executable, "-c", "import pyodbc; print(pyodbc.drivers())"]
    found = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    if DRIVER not in found:
        folder = tmp_path_factory.mktemp("odbc")
        path = mssql_python.get_native_provider_info()["driver_path"]
        (folder / "odbcinst.ini").write_text(f"[{DRIVER}]\nDriver={path}\n")
        os.environ["ODBCSYSINI"] = str(folder)
    return lambda recipe: importlib.import_module(f"recipes.sqlserver.{recipe}")
