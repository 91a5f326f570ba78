"""build_url: what goes in comes out, and logs in."""

import sys
from collections.abc import Iterator
from urllib.parse import quote_plus
from uuid import uuid4

import pytest
from sqlalchemy import URL, create_engine, exc, make_url, text

from recipes.sqlalchemy.build_url import build_url, file_url, name_driver

PASSWORDS = ["p@ss/w#rd", "100%41", "a:b?c&d=e", "[x] +", "grün 🙂", "***"]
PARTS = {"host": "db.example.com", "database": "shop", "user": "app", "password": "x"}


def answer(url: URL | str) -> int:
    engine = create_engine(url)
    try:
        with engine.connect() as conn:
            return conn.execute(text("SELECT 6 * 7")).scalar_one()
    finally:
        engine.dispose()


@pytest.mark.parametrize("password", PASSWORDS)
@pytest.mark.parametrize("kind", ["postgresql", "mysql"])
def test_every_sign_arrives(kind, password):
    """A password with `@`, `/`, `#`, `%`, `:` or a smiley is the same when it is read
    back from the text of the URL, and the host is the host."""
    url = build_url(kind, **PARTS | {"password": password, "user": "a@b"}, port=7)
    read = make_url(url.render_as_string(hide_password=False))
    assert (read.username, read.password) == ("a@b", password)
    assert (read.host, read.port, read.database) == ("db.example.com", 7, "shop")


@pytest.fixture
def login(postgresql) -> Iterator[URL]:
    """A URL, built from its parts, of a user whose password is hard to write."""
    given = make_url(postgresql).set(drivername="postgresql+psycopg")
    admin = create_engine(given, isolation_level="AUTOCOMMIT")
    name = f"u{uuid4().hex}"
    with admin.connect() as conn:
        conn.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD 'p@ss/w#rd'"))
        yield build_url(
            "postgresql",
            host=given.host,
            port=given.port,
            database=given.database,
            user=name,
            password="p@ss/w#rd",
        )
        conn.execute(text(f"DROP ROLE {name}"))
    admin.dispose()


def test_logs_in(login):
    """PostgreSQL lets `p@ss/w#rd` in, from the URL and from its text."""
    assert answer(login) == 42
    assert answer(login.render_as_string(hide_password=False)) == 42


def test_hides_the_password(login):
    """Printed, the URL shows three stars; that text is not for `create_engine`: the
    server would be sent the stars."""
    assert "p@ss" not in f"{login} {login!r}"
    assert "p%40ss" not in f"{login} {login!r}"
    with pytest.raises(exc.OperationalError, match="password authentication failed"):
        answer(str(login))


def test_no_port(login):
    """Without a port there is none in the URL: each driver takes its own."""
    assert build_url("postgresql", **PARTS).port is None
    assert build_url("mysql", **PARTS).port is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"kind": "postgre"}, "'postgre' is none of postgresql"),
        ({"password": ""}, "empty: password"),
        ({"host": "", "user": ""}, "empty: host, user"),
        ({"database": ""}, "empty: database"),
    ],
)
def test_refused(change, says):
    """A kind with a typing error and an empty part are a ValueError that names them."""
    with pytest.raises(ValueError, match=says):
        build_url(**{"kind": "postgresql"} | PARTS | change)


@pytest.mark.parametrize(
    ("address", "driver"),
    [
        ("postgres://app:x@db.example.com/shop", "postgresql+psycopg"),
        ("postgresql://app:x@db.example.com/shop", "postgresql+psycopg"),
        ("mysql://app:x@db.example.com/shop", "mysql+pymysql"),
        ("mariadb://app:x@db.example.com/shop", "mariadb+pymysql"),
        ("postgresql+asyncpg://app:x@db.example.com/shop", "postgresql+asyncpg"),
    ],
)
def test_names_the_driver(address, driver):
    """An address without a driver gets one; an address with a driver keeps it."""
    url = name_driver(address)
    assert url.drivername == driver
    assert url.set(drivername="x") == make_url(address).set(drivername="x")


def test_connects_to_what_was_given(database):
    """With the driver named, it connects to the database of the address."""
    bare = make_url(database)
    bare = bare.set(drivername=bare.get_backend_name())
    assert answer(name_driver(bare.render_as_string(hide_password=False))) == 42


def test_no_url():
    """What is no URL is refused, and the message does not repeat the secret in it."""
    with pytest.raises(exc.ArgumentError) as raised:
        name_driver("app hunter2 db.example.com")
    assert "hunter2" not in str(raised.value)


def test_strange_file(tmp_path):
    """A SQLite file may have `?`, `#` and `%41` in its name."""
    path = tmp_path / "what?#%41.db"
    answer(file_url(path))
    assert path.exists()


# --8<-- [start:wrong]
def url_as_often_copied(kind, user, password, host, port=3306):
    return f"{kind}://{user}:{password}@{host}:{port}/shop"


# --8<-- [end:wrong]


def test_often_copied_sends_the_password_to_another_host():
    """Often copied: with the password `p@ss/w#rd`, the password is `p` and the host is
    `ss`; the rest of the password is the name of the database."""
    url = make_url(
        url_as_often_copied("postgresql", "app", "p@ss/w#rd", "db.example.com")
    )
    assert (url.password, url.host) == ("p", "ss")
    assert url.database.startswith("w#rd@")


def test_often_copied_changes_the_password():
    """Often copied: the password `100%41` becomes `100A`."""
    url = make_url(url_as_often_copied("mysql", "app", "100%41", "db.example.com"))
    assert url.password == "100A"


def test_often_copied_quote_plus():
    """Often copied, with `quote_plus`: the password `a b` becomes `a+b`."""
    address = url_as_often_copied("mysql", "app", quote_plus("a b"), "db.example.com")
    assert make_url(address).password == "a+b"


def test_often_copied_port():
    """Often copied: PostgreSQL is called on the port of MySQL."""
    url = make_url(url_as_often_copied("postgresql", "app", "x", "db.example.com"))
    assert url.port == 3306


def test_often_copied_without_a_driver(monkeypatch):
    """Often copied: since 2.1, `postgresql://` wants psycopg 3; where only psycopg2 is
    installed, it ends in ModuleNotFoundError."""
    address = url_as_often_copied("postgresql", "app", "x", "db.example.com")
    assert create_engine(address).dialect.driver == "psycopg"
    monkeypatch.setitem(sys.modules, "psycopg", None)  # as if it were not installed
    with pytest.raises(ModuleNotFoundError, match="psycopg"):
        create_engine(address)


def test_often_copied_postgres():
    """Often copied: `postgres://`, as platforms give it, is unknown to SQLAlchemy."""
    address = url_as_often_copied("postgres", "app", "x", "db.example.com")
    with pytest.raises(exc.NoSuchModuleError):
        create_engine(address)


def test_often_copied_file(tmp_path):
    """Often copied: `sqlite:///` and a name with `?` opens another file."""
    answer(f"sqlite:///{tmp_path}/what?.db")
    assert [path.name for path in tmp_path.iterdir()] == ["what"]
