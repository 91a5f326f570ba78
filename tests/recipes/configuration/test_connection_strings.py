"""connection_strings: every driver reads what was meant, whatever the password is."""

import asyncio
import inspect
from contextlib import closing
from dataclasses import replace
from urllib.parse import quote_plus, unquote, urlsplit

import asyncpg
import ibm_db_dbi
import mysql.connector
import oracledb
import psycopg
import pymysql
import pytest
import redis as redis_py
from asyncpg.connect_utils import _parse_connect_dsn_and_args
from mssql_python.connection_string_parser import _ConnectionStringParser
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict
from pymongo.uri_parser import parse_uri
from redis.connection import parse_url
from sqlalchemy import create_engine, make_url, text

from recipes.configuration.connection_strings import FORMS, Target, db2
from tests.recipes.support.drda import Impostor

HOSTILE = [
    "p@ss/w:rd#1%41?;}{`'",
    "}};Encrypt=no;PWD={x}",
    "x' host='evil.example.com",
    "a b",
    " blanks around ",
    "a+b&c=d",
    "back\\slash\\",
    '"quoted"',
    "grün 🙂 密码",
    "[::1]",
    "$HOME ${HOME} %(x)s",
]
hostile = pytest.mark.parametrize("password", HOSTILE)
TARGET = Target("db.example.com", 7000, "shop", "app", "x")


def libpq(given: str) -> Target:
    it = conninfo_to_dict(given)
    return Target(it["host"], int(it["port"]), it["dbname"], it["user"], it["password"])


def asyncpgs(given: str) -> Target:
    none = dict.fromkeys(inspect.signature(_parse_connect_dsn_and_args).parameters)
    [[host, port]], it = _parse_connect_dsn_and_args(**none | {"dsn": given})
    return Target(host, port, it.database, it.user, it.password)


def sqlalchemys(given: str) -> Target:
    it = make_url(given)
    create_engine(it).dispose()  # the driver is there
    return Target(it.host, it.port, it.database, it.username, it.password)


def oracledbs(given: str) -> Target:
    user, password, dsn = oracledb.ConnectParams().parse_dsn_with_credentials(given)
    it = oracledb.ConnectParams()
    it.parse_connect_string(dsn)
    return Target(it.host, it.port, it.service_name, user, password)


def mssqls(given: str) -> Target:
    it = _ConnectionStringParser()._parse(given)
    host, port = it["server"].removeprefix("tcp:").split(",")
    assert it["encrypt"] == "yes"
    return Target(host, int(port), it["database"], it["uid"], it["pwd"])


def pyodbcs(given: str) -> Target:
    """With the rules of ODBC; Microsoft's own driver is not at hand."""
    driver, rest = given.split(";", 1)
    assert driver == "Driver={ODBC Driver 18 for SQL Server}"
    return mssqls(rest)


def pymongos(given: str) -> Target:
    it = parse_uri(given)
    [[host, port]] = it["nodelist"]
    return Target(host, port, it["database"], it["username"], it["password"])


def redispys(given: str) -> Target:
    it = parse_url(given)
    database = str(it["db"]) if "db" in it else urlsplit(given).path[1:]
    return Target(it["host"], it["port"], database, it["username"], it["password"])


PARSERS = {
    ("PostgreSQL", "psycopg, a URL"): libpq,
    ("PostgreSQL", "psycopg, keywords"): libpq,
    ("PostgreSQL", "asyncpg"): asyncpgs,
    ("PostgreSQL", "SQLAlchemy"): sqlalchemys,
    ("MySQL", "SQLAlchemy"): sqlalchemys,
    ("MariaDB", "SQLAlchemy"): sqlalchemys,
    ("Oracle", "oracledb"): oracledbs,
    ("SQL Server", "mssql-python"): mssqls,
    ("SQL Server", "pyodbc"): pyodbcs,
    ("MongoDB", "pymongo"): pymongos,
    ("Redis", "redis-py"): redispys,
}


def test_every_line_is_parsed():
    """Each line of the table is read by the parser of its driver; Db2's driver has none
    that can be called, and its line is sent to a server that notes the login."""
    assert {*FORMS} == {*PARSERS} | {("Db2", "ibm_db")}


@hostile
@pytest.mark.parametrize("form", PARSERS, ids=" ".join)
def test_every_password_arrives(form, password):
    """Every driver reads the same host, port, database, user and password that the
    string was built from: with `@ / : # % ; } ' "`, blanks, `+`, `$`, Unicode. The URL
    for PyMySQL refuses a password that is not ASCII."""
    target = replace(TARGET, password=password)
    if form[0] in ("MySQL", "MariaDB") and not password.isascii():
        with pytest.raises(ValueError, match="connect_args"):
            FORMS[form](target)
    else:
        assert PARSERS[form](FORMS[form](target)) == target


WITH_ANY_USER = [form for form in PARSERS if form[0] != "Oracle"]


@pytest.mark.parametrize("form", WITH_ANY_USER, ids=" ".join)
def test_every_user_arrives(form):
    """A user like `app@example.com`, as cloud services have them, arrives too."""
    target = replace(TARGET, user="app@example.com:x/y")
    assert PARSERS[form](FORMS[form](target)) == target


@pytest.fixture
def impostor():
    """A Db2 that notes who logs in, and says no."""
    with closing(Impostor()) as server:
        yield server


@pytest.mark.parametrize("password", [it for it in HOSTILE if ";" not in it])
def test_db2_sends_the_password(impostor, password, monkeypatch):
    """ibm_db sends the database, the user and the password as they were, or the string
    is refused before it is built."""
    monkeypatch.setenv("DB2_MAX_CLIENT_CONNRETRIES", "0")
    target = Target("127.0.0.1", impostor.port, "SHOP", "app", password)
    if password != password.strip():
        with pytest.raises(ValueError, match="blank"):
            db2(target)
        return
    with pytest.raises(ibm_db_dbi.Error):
        ibm_db_dbi.connect(db2(target) + "Authentication=SERVER;")
    login = impostor.logins[0]
    assert (login.user, login.password) == ("app", password)


def test_db2_refuses_a_semicolon():
    """A semicolon, which the driver of Db2 would take for the end, is a ValueError; the
    password is not in it."""
    with pytest.raises(ValueError, match="no ;") as raised:
        db2(replace(TARGET, password="hunter2;SECURITY=none"))
    assert "hunter2" not in str(raised.value)


def test_the_parts_do_not_show_the_password():
    """Printed or logged, the parts show no password; the strings do, and are for the
    driver alone."""
    target = replace(TARGET, password="hunter2")
    assert "hunter2" not in f"{target} {target!r}"
    for form, build in FORMS.items():
        assert "hunter2" in build(target), form


def target_of(address: str, user: str, password: str) -> Target:
    it = urlsplit(address)
    return Target(it.hostname, it.port, it.path[1:], user, password)


@hostile
def test_postgresql_lets_it_in(postgresql, password):
    """PostgreSQL lets that user in with every form: the URL and the keywords of
    psycopg, and SQLAlchemy."""
    with psycopg.connect(postgresql, autocommit=True) as admin:
        role = f"u_{admin.info.dbname}"
        create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        admin.execute(create.format(sql.Identifier(role), password))
        target = target_of(postgresql, role, password)
        try:
            for driver in ("psycopg, a URL", "psycopg, keywords"):
                with psycopg.connect(FORMS["PostgreSQL", driver](target)) as conn:
                    assert conn.info.user == role
            engine = create_engine(FORMS["PostgreSQL", "SQLAlchemy"](target))
            with engine.connect() as conn:
                assert conn.scalar(text("SELECT current_user")) == role
            engine.dispose()
        finally:
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


async def _user_of(dsn: str) -> str:
    conn = await asyncpg.connect(dsn)
    try:
        return await conn.fetchval("SELECT current_user")
    finally:
        await conn.close()


@hostile
def test_postgresql_lets_asyncpg_in(postgresql, password):
    """PostgreSQL lets that user in with asyncpg."""
    with psycopg.connect(postgresql, autocommit=True) as admin:
        role = f"u_{admin.info.dbname}"
        create = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
        admin.execute(create.format(sql.Identifier(role), password))
        try:
            form = FORMS["PostgreSQL", "asyncpg"](target_of(postgresql, role, password))
            assert asyncio.run(_user_of(form)) == role
        finally:
            admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


@hostile
def test_mysql_lets_it_in(mysql, password):
    """MySQL lets that user in: with SQLAlchemy's URL, and with the keyword arguments of
    PyMySQL and MySQL Connector, which need no string. PyMySQL takes what is not ASCII
    as bytes."""
    own = urlsplit(mysql)
    parts = {"host": own.hostname, "port": own.port, "database": own.path[1:]}
    root = {"user": unquote(own.username), "password": unquote(own.password or "")}
    user, utf_8 = f"u_{own.path[-12:]}", password.encode()
    with pymysql.connect(**parts, **root, autocommit=True) as admin:
        cursor = admin.cursor()
        cursor.execute(f"CREATE USER `{user}`@'%%' IDENTIFIED BY %s", (password,))
        try:
            cursor.execute(f"GRANT ALL ON `{parts['database']}`.* TO `{user}`")
            ascii_only = password if password.isascii() else "x"
            target = target_of(mysql, user, ascii_only)
            engine = create_engine(
                FORMS["MySQL", "SQLAlchemy"](target),
                connect_args={} if ascii_only == password else {"password": utf_8},
            )
            with engine.connect() as conn:
                assert conn.scalar(text("SELECT 6 * 7")) == 42
            engine.dispose()
            login = {"user": user, "password": password}
            pymysql.connect(**parts, user=user, password=utf_8).close()
            mysql_connector(parts | login)
        finally:
            cursor.execute(f"DROP USER `{user}`")


def mysql_connector(parts) -> None:
    mysql.connector.connect(**parts, use_pure=True).close()


@hostile
def test_redis_lets_it_in(redis, password):
    """Redis lets that user in."""
    own = urlsplit(redis)
    with redis_py.Redis.from_url(redis) as admin:
        user = f"u_{abs(hash(redis))}"
        admin.execute_command(
            "ACL", "SETUSER", user, "on", f">{password}", "+@all", "~*"
        )
        try:
            target = Target(own.hostname, own.port, "0", user, password)
            with redis_py.Redis.from_url(FORMS["Redis", "redis-py"](target)) as client:
                assert client.execute_command("ACL", "WHOAMI").decode() == user
        finally:
            admin.execute_command("ACL", "DELUSER", user)


# --8<-- [start:wrong]
def url_as_often_copied(user, password, host, database):
    return f"postgresql://{user}:{quote_plus(password)}@{host}/{database}"


def odbc_as_often_copied(user, password, server, database):
    return f"Server={server};Database={database};UID={user};PWD={password};Encrypt=yes"


# --8<-- [end:wrong]


def test_often_copied_quote_plus_changes_blanks():
    """Often copied: with `quote_plus` a blank in the password becomes a plus, which
    libpq, asyncpg and SQLAlchemy leave as it is."""
    given = url_as_often_copied("app", "a b", "db.example.com", "shop")
    assert conninfo_to_dict(given)["password"] == "a+b"
    assert asyncpgs(given).password == "a+b"
    assert make_url(given).password == "a+b"


def test_often_copied_semicolon_adds_an_option():
    """Often copied: with the password `x;TrustServerCertificate=yes`, the password is
    `x`, and no certificate is checked."""
    password = "x;TrustServerCertificate=yes"
    given = odbc_as_often_copied("app", password, "db.example.com", "shop")
    read = _ConnectionStringParser()._parse(given)
    assert read["pwd"] == "x"
    assert read["trustservercertificate"] == "yes"


def test_often_copied_pymysql_sends_latin_1():
    """Often copied: PyMySQL sends a password that is a text in Latin-1. A
    smiley ends in a UnicodeEncodeError."""
    with pytest.raises(UnicodeEncodeError):
        pymysql.connect(host="127.0.0.1", port=1, user="app", password="🙂")


def test_often_copied_keywords_change_the_host():
    """Often copied, as `host=... password={password}`: a blank in the password ends it,
    and what follows is another option."""
    password = "x host=evil.example.com"
    given = conninfo_to_dict(f"host=db.example.com user=app password={password}")
    assert given["host"] == "evil.example.com"
    assert given["password"] == "x"


def test_often_copied_slash_ends_the_host():
    """Often copied, as an f-string: of the password `p@ss/w`, one part is the host and
    one the database."""
    given = make_url("postgresql://app:p@ss/w@db.example.com/shop")
    assert (given.password, given.host) == ("p", "ss")
    assert given.database == "w@db.example.com/shop"
