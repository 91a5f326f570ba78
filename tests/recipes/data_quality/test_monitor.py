import re
import smtplib
import sqlite3
import ssl
import subprocess
import sys
import tomllib
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sqlalchemy import (
    Column,
    Date,
    DateTime,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    Numeric,
    String,
    Table,
    create_engine,
    delete,
    event,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import mysql
from typer.testing import CliRunner

from recipes.data_quality.monitor import alert, charts, history, report, runner
from recipes.data_quality.monitor.cli import app
from recipes.data_quality.monitor.config import Config, ConfigError, load
from recipes.data_quality.monitor.database import open_engine
from recipes.data_quality.monitor.status import Found, Result, Run, Status
from tests.recipes.support.smtp_server import PASSWORD, USER, SMTPServer

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "recipes/data_quality/monitor"
PAGE_REPORT = ROOT / "docs/data_quality/monitor-report.html"
NOW = datetime(2026, 3, 29, 12, 0, tzinfo=UTC)

# A sound shop. Its names are SQL's own words, so that all must be quoted.

metadata = MetaData()
customers = Table(
    "user",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("email", String(50)),
    Column("group", String(10)),
)
orders = Table(
    "order",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("customer_id", Integer),
    Column("state", String(10)),
    Column("placed_at", DateTime),
    Column("total", Numeric(12, 2)),
)
lines = Table(
    "order line",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("order_id", Integer),
    Column("quantity", Integer),
    Column("price", Numeric(12, 2)),
)
clicks = Table(
    "click",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("page", String(20)),
    Column("seen_by", Integer),
)

CHECKS = {
    "an address": {"kind": "completeness", "table": "user", "column": "email"},
    "a known form": {
        "kind": "format",
        "table": "user",
        "column": "email",
        "pattern": r"[^@\s]*@[^@\s]+\.com|\s*",
    },
    "a group": {
        "kind": "format",
        "table": "user",
        "column": "group",
        "pattern": "[A-Z]{2}|[A-Z]{4}",
    },
    "one of each": {"kind": "duplicates", "table": "user", "key": ["email"]},
    "no click twice": {"kind": "duplicates", "table": "click"},
    "a customer": {
        "kind": "references",
        "table": "order",
        "columns": ["customer_id"],
        "parent": "user",
    },
    "a state": {
        "kind": "values",
        "table": "order",
        "column": "state",
        "allowed": ["open", "paid"],
    },
    "some quantity": {
        "kind": "values",
        "table": "order line",
        "column": "quantity",
        "minimum": 1,
        "maximum": 100,
    },
    "no state takes over": {
        "kind": "distribution",
        "table": "order",
        "column": "state",
        "fail_above": "80%",
    },
    "new orders": {
        "kind": "freshness",
        "table": "order",
        "column": "placed_at",
        "warn_above": 6,
        "fail_above": 24,
    },
    "sums": {
        "kind": "revenue",
        "table": "order",
        "key": "id",
        "total": "total",
        "lines": "order line",
        "lines_key": "order_id",
        "quantity": "quantity",
        "unit_price": "price",
    },
    "no large order": {
        "kind": "sql",
        "query": "SELECT COUNT(*) FROM {order} WHERE total > 5000",
    },
}


def config_of(checks, **more):
    listed = [{"name": name, **check} for name, check in checks.items()]
    return Config.model_validate({"name": "Shop", "checks": listed, **more})


def run(engine, checks, now=NOW, **more):
    quote = engine.dialect.identifier_preparer.quote
    listed = {
        name: {**it, "query": it["query"].replace("{order}", quote("order"))}
        if "query" in it
        else it
        for name, it in checks.items()
    }
    return runner.run(engine, config_of(listed, **more), now)


def one(engine, check, **more):
    """The result of this check alone."""
    return run(engine, {"it": check}, **more).results[0]


def not_passed(result):
    return {it.name: it.status for it in result.results if it.status != Status.PASS}


@pytest.fixture
def engine(database):
    engine = open_engine(database)
    yield engine
    engine.dispose()


def order(number, **more):
    placed = (NOW - timedelta(hours=number)).replace(tzinfo=None)
    state = "open" if number % 2 else "paid"
    sound = {"id": number, "customer_id": number, "state": state, "placed_at": placed}
    return {**sound, "total": Decimal("30.30"), **more}


def line(number, order, **more):
    price = Decimal("10.10")
    return {"id": number, "order_id": order, "quantity": 1, "price": price, **more}


@pytest.fixture
def shop(engine):
    with engine.begin() as conn:
        metadata.create_all(conn)
        people = [{"id": n, "email": f"c{n}@x.com", "group": "DE"} for n in range(1, 9)]
        conn.execute(insert(customers), people)
        conn.execute(insert(orders), [order(n) for n in range(1, 9)])
        pairs = [(n, k) for n in range(1, 9) for k in range(3)]
        conn.execute(insert(lines), [line(10 * n + k, n) for n, k in pairs])
        conn.execute(
            insert(clicks), [{"page": f"/{n}", "seen_by": 1} for n in range(4)]
        )
    return engine


def plant(engine, *statements):
    with engine.begin() as conn:
        for statement in statements:
            conn.execute(statement)


def change(table, **values):
    """Of the third row alone."""
    return update(table).where(table.c.id == 3).values(**values)


def test_sound_data_passes(shop):
    """Sound data passes every check, on tables whose names SQL reserves."""
    result = run(shop, CHECKS)
    assert not_passed(result) == {}
    assert result.exit_code == 0
    assert len(result.results) == len(CHECKS)


OLD = datetime(2026, 3, 1)
DEFECTS = {
    "null": ("an address", 1, change(customers, email=None)),
    "blank": ("an address", 1, change(customers, email="   ")),
    "empty": ("an address", 1, change(customers, email="")),
    "format": ("a known form", 1, change(customers, email="c3@x.org")),
    "start alone fits": ("a known form", 1, change(customers, email="c3@x.com.")),
    "end alone fits": ("a known form", 1, change(customers, email="x c3@x.com")),
    "small letters": ("a group", 1, change(customers, group="de")),
    "a newline": ("a group", 1, change(customers, group="DE\n")),
    "key again": ("one of each", 1, change(customers, email="c4@x.com")),
    "30 whole rows": (
        "no click twice",
        29,
        insert(clicks).values([{"page": "/a", "seen_by": None}] * 30),
    ),
    "orphan": ("a customer", 1, change(orders, customer_id=77)),
    "unknown state": ("a state", 1, change(orders, state="lost")),
    "below": ("some quantity", 1, insert(lines).values(line(1, 1, quantity=0))),
    "above": (
        "some quantity",
        1,
        insert(lines).values(line(1, 1, quantity=101, price=0)),
    ),
    "one state": ("no state takes over", 8, update(orders).values(state="paid")),
    "stale": ("new orders", None, update(orders).values(placed_at=OLD)),
    "future": (
        "new orders",
        None,
        change(orders, placed_at=datetime(2026, 4, 1)),
    ),
    "a cent": ("sums", 1, change(orders, total=Decimal("30.29"))),
    "a cent more": ("sums", 1, change(orders, total=Decimal("30.31"))),
    "no total": ("sums", 1, change(orders, total=None)),
    "no lines": ("sums", 1, delete(lines).where(lines.c.order_id == 3)),
    "no price": ("sums", 1, insert(lines).values(line(1, 3, price=None))),
    "own rule": (
        "no large order",
        1,
        change(orders, total=6000),
        update(lines).where(lines.c.id == 30).values(price=Decimal("5979.80")),
    ),
    "an empty table": ("no click twice", None, delete(clicks)),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_finds_exactly_what_was_planted(shop, defect):
    """Each kind of defect, planted alone, fails its own check with the right count, and
    no other."""
    name, count, *statements = DEFECTS[defect]
    plant(shop, *statements)
    result = run(shop, CHECKS)
    assert not_passed(result) == {name: Status.FAIL}
    found = next(it.found for it in result.results if it.name == name)
    assert count in (None, found.value)
    assert result.exit_code == 1


def test_names_the_bad_rows(shop):
    """It names the primary keys of up to five bad rows, and never their contents."""
    plant(shop, update(customers).where(customers.c.id > 1).values(email=None))
    found = one(shop, CHECKS["an address"]).found
    assert found.examples == ("2", "3", "4", "5", "6")


def test_limits(shop):
    """Limits are numbers or shares of the rows; WARN lies between the two of them."""
    plant(shop, change(customers, email=None))
    it = CHECKS["an address"]
    assert one(shop, {**it, "warn_above": 0, "fail_above": 1}).status == "WARN"
    assert one(shop, {**it, "warn_above": 1, "fail_above": 2}).status == "PASS"
    assert one(shop, {**it, "fail_above": "12.5%"}).status == "PASS"
    assert one(shop, {**it, "fail_above": "12.4%"}).status == "FAIL"


def test_blanks_may_be_allowed(shop):
    """Where a blank text is a value, only NULL is missing."""
    plant(shop, change(customers, email=" "))
    it = {**CHECKS["an address"], "blank_is_missing": False}
    assert one(shop, it).status == "PASS"
    number = {"kind": "completeness", "table": "order", "column": "total"}
    assert one(shop, number).status == "PASS"


def test_format_of_a_number(shop):
    """A number is checked as the text that it is shown as."""
    it = {"kind": "format", "table": "order", "column": "id", "pattern": "[0-9]"}
    assert one(shop, it).status == "PASS"
    assert one(shop, {**it, "pattern": "[1-7]"}).found.value == 1


def test_distribution(shop):
    """The distribution tells the most frequent values, NULL among them."""
    plant(shop, change(orders, state=None))
    found = one(shop, CHECKS["no state takes over"]).found
    assert found.top == (("paid", 4), ("open", 3), ("None", 1))
    assert found.message == "50.0% of 8 rows have the first of 2 values"


def test_duplicates_ignore(shop):
    """Whole rows leave out the primary key, and what is to be ignored."""
    it = {**CHECKS["no click twice"], "ignore": ["page"]}
    assert one(shop, it).found.value == 3
    plant(shop, update(customers).values(email=None))
    assert one(shop, CHECKS["one of each"]).status == "PASS", "NULL equals nothing"


# What cannot run is an ERROR.


@pytest.mark.parametrize(
    ("check", "says"),
    [
        ({**CHECKS["an address"], "table": "nobody"}, "there is no table nobody"),
        (
            {**CHECKS["an address"], "column": "nothing"},
            "the table user has no column nothing",
        ),
        (
            {"kind": "duplicates", "table": "click", "ignore": ["page", "seen_by"]},
            "name a key",
        ),
        ({"kind": "references", "table": "order"}, "declares no foreign key"),
        ({**CHECKS["a customer"], "parent": "nobody"}, "there is no table nobody"),
        (
            {**CHECKS["a customer"], "parent_columns": ["id", "email"]},
            "cannot point to",
        ),
        ({"kind": "sql", "query": "SELECT COUNT(* FROM"}, "Error"),
        ({"kind": "sql", "query": "SELECT NULL"}, "must answer one number"),
        ({"kind": "sql", "query": "SELECT 'many'"}, "must answer one number"),
        ({"kind": "sql", "query": "SELECT 1, 2"}, "must answer one number"),
        ({"kind": "sql", "query": "SELECT 1 UNION SELECT 2"}, "must answer one number"),
        ({**CHECKS["no large order"], "query": "SELECT 1 WHERE 1 = 0"}, "one number"),
    ],
)
def test_what_cannot_run_is_an_error(shop, check, says):
    """A check that could not run is an ERROR with the reason, the checks after it run,
    and the exit code is 2."""
    plant(shop, change(customers, email=None))
    result = run(shop, {"broken": check, "an address": CHECKS["an address"]})
    assert not_passed(result) == {"broken": Status.ERROR, "an address": Status.FAIL}
    assert says in result.results[0].message
    assert result.results[0].found is None
    assert result.exit_code == 2


def test_a_bug_in_a_check_is_an_error(shop, monkeypatch):
    """Not even a bug in a check itself passes for good data."""
    monkeypatch.setattr(runner, "completeness", lambda *_: 1 / 0)
    result = one(shop, CHECKS["an address"])
    assert result.status == "ERROR"
    assert result.message == "ZeroDivisionError: division by zero"
    assert runner.describe(ValueError()) == "ValueError: no message"


def test_without_regular_expressions(tmp_path):
    """An engine that has no regular expressions makes the check an ERROR, even of an
    empty table."""
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")

    @event.listens_for(engine, "connect")
    def forbid(connection, record):
        def judge(action, table, name, *_):
            is_regexp = (action, name) == (sqlite3.SQLITE_FUNCTION, "regexp")
            return sqlite3.SQLITE_DENY if is_regexp else sqlite3.SQLITE_OK

        connection.set_authorizer(judge)

    metadata.create_all(engine)
    result = one(engine, CHECKS["a known form"])
    assert (result.status, result.found) == ("ERROR", None)
    assert "regexp" in result.message.lower()
    engine.dispose()


def test_cannot_write(shop):
    """The connection of a check cannot write: a DELETE in a query is an ERROR."""
    result = one(shop, {"kind": "sql", "query": "DELETE FROM click"})
    assert result.status == "ERROR"
    assert re.search("read.?only", result.message, re.IGNORECASE)
    with shop.begin() as conn:
        assert conn.scalar(select(func.count()).select_from(clicks)) == 4
        conn.execute(delete(clicks))  # and nobody else's connection is so


FOREVER = {
    "postgresql": "SELECT COUNT(*) FROM (SELECT pg_sleep(300)) AS a",
    "mysql": "SELECT COUNT(*) FROM click WHERE SLEEP(300) = 0",
    "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
    " SELECT COUNT(*) FROM n",
}


def test_timeout(shop):
    """A statement that takes too long is stopped, and is an ERROR."""
    it = {"kind": "sql", "query": FOREVER[shop.dialect.name]}
    result = one(shop, it, database={"timeout": 1})
    assert result.status == "ERROR"
    assert result.seconds < 60


def test_database_that_is_not_there():
    """A database that cannot be reached makes every check an ERROR, and hides the
    password."""
    engine = open_engine("postgresql+psycopg://cook:secret@127.0.0.1:1/shop")
    result = run(engine, CHECKS)
    assert {it.status for it in result.results} == {Status.ERROR}
    assert result.exit_code == 2
    assert "secret" not in report.render(result, [])
    engine.dispose()


def test_percent_signs_and_colons(shop):
    """A custom query runs as it is written: % and : mean nothing to the driver."""
    query = "SELECT COUNT(*) FROM click WHERE page LIKE '/%' AND page <> '12:30'"
    assert one(shop, {"kind": "sql", "query": query, "fail_above": 4}).status == "PASS"
    assert one(shop, {"kind": "sql", "query": query, "fail_above": 3}).status == "FAIL"


def test_numbers_that_are_none(tmp_path):
    """An answer without end is an ERROR."""
    engine = create_engine(f"sqlite:///{tmp_path / 'shop.db'}")
    result = one(engine, {"kind": "sql", "query": "SELECT 9e999"})
    assert (result.status, result.found) == ("ERROR", None)
    engine.dispose()


# Keys.


def test_declared_foreign_keys(engine):
    """Without columns it checks every foreign key that the schema declares: composite,
    and to the same table, too."""
    own = MetaData()
    parent = Table(
        "parent",
        own,
        Column("a", Integer, primary_key=True, autoincrement=False),
        Column("b", Integer, primary_key=True, autoincrement=False),
    )
    child = Table(
        "child",
        own,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("a", Integer),
        Column("b", Integer),
        Column("boss", Integer, ForeignKey("child.id")),
        ForeignKeyConstraint(["a", "b"], ["parent.a", "parent.b"]),
    )
    off = {
        "mysql": "SET SESSION foreign_key_checks = 0",
        "postgresql": "SET session_replication_role = replica",
        "sqlite": "PRAGMA foreign_keys = OFF",
    }
    rows = [(1, 1, 1, None), (2, 1, None, 1), (3, 1, 2, 1), (4, None, None, 9)]
    with engine.begin() as conn:
        own.create_all(conn)
        conn.exec_driver_sql(off[engine.dialect.name])
        conn.execute(insert(parent), [{"a": 1, "b": 1}, {"a": 2, "b": 2}])
        for number, a, b, boss in rows:
            conn.execute(insert(child).values(id=number, a=a, b=b, boss=boss))
    engine.dispose()
    found = one(engine, {"kind": "references", "table": "child"}).found
    assert found.examples == ("3", "4")
    own.drop_all(engine)


def orphans_by_implicit_key(path):
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE parent (id INTEGER PRIMARY KEY)")
        conn.execute("CREATE TABLE child (parent_id INTEGER REFERENCES parent)")
        conn.execute("INSERT INTO child VALUES (1)")
        conn.commit()


def test_implicit_key(tmp_path):
    """SQLite's `REFERENCES parent`, which names no column, means the primary key."""
    orphans_by_implicit_key(tmp_path / "a.db")
    engine = create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    found = one(engine, {"kind": "references", "table": "child"}).found
    assert (found.value, found.examples) == (1, ())
    engine.dispose()


# Time.


@pytest.mark.parametrize(
    ("hours", "status"), [(5.9, "PASS"), (6.1, "WARN"), (24.1, "FAIL")]
)
def test_age(shop, hours, status):
    """The age is measured in UTC, whatever zone the caller's clock shows."""
    newest = NOW - timedelta(hours=1)
    there = (newest + timedelta(hours=hours)).astimezone(timezone(timedelta(hours=9)))
    assert one(shop, CHECKS["new orders"], now=there).status == status


def test_future_hides_nothing(shop):
    """A row in the future does not hide how old the others are."""
    ahead = datetime(2026, 4, 1)
    plant(shop, update(orders).values(placed_at=OLD), change(orders, placed_at=ahead))
    message = one(shop, CHECKS["new orders"]).message
    days = "the newest of 8 rows is 684.0 hours old"
    assert message == f"{days}; 1 rows are in the future"


def moments(engine, kind, *values):
    """A table of its own with these times."""
    table = Table("moment", MetaData(), Column("at", kind))
    with engine.begin() as conn:
        table.create(conn)
        conn.execute(insert(table), [{"at": value} for value in values])


FRESH = {"kind": "freshness", "table": "moment", "column": "at", "fail_above": 1.5}


def test_local_time(engine):
    """Times of a column without a zone are read in the zone that is configured, also
    on the day when the clocks change."""
    moments(engine, DateTime(), datetime(2026, 3, 29, 13, 0))  # 11:00 UTC
    assert one(engine, {**FRESH, "time_zone": "Europe/Berlin"}).message == (
        "the newest of 1 rows is 1.0 hours old"
    )
    as_utc = one(engine, FRESH)
    assert as_utc.status == "FAIL"
    assert "1 rows are in the future" in as_utc.message


def test_time_with_zone(engine):
    """A column that has a time zone needs no configured one."""
    kind = DateTime(timezone=True)
    stored = datetime(2026, 3, 29, 11, tzinfo=UTC)
    if engine.dialect.name == "mysql":
        kind, stored = mysql.TIMESTAMP(), stored.replace(tzinfo=None)
        with engine.connect() as conn:  # written in the server's zone, whichever it is
            local = conn.scalar(
                text("SELECT TIMESTAMPDIFF(MINUTE, UTC_TIMESTAMP(), NOW())")
            )
        stored += timedelta(minutes=local)
    moments(engine, kind, stored)
    zone = "UTC" if engine.dialect.name == "sqlite" else "Asia/Tokyo"
    assert "1.0 hours old" in one(engine, {**FRESH, "time_zone": zone}).message


def test_dates(engine):
    """Of a column of dates, a day begins at midnight."""
    moments(engine, Date(), NOW.date())
    assert "12.0 hours old" in one(engine, FRESH).message


def test_no_time_at_all(engine):
    """Rows that tell no time fail, and so does a text where a time should be."""
    moments(engine, DateTime(), None)
    result = one(engine, FRESH)
    assert (result.status, result.found.fault) == (
        "FAIL",
        "nobody knows how old they are",
    )
    with engine.begin() as conn:
        Table("moment", MetaData()).drop(conn)
    moments(engine, String(20), "yesterday")
    result = one(engine, FRESH)
    if engine.dialect.name == "sqlite":
        assert "1 rows hold no time that can be read" in result.message
        assert result.status == "FAIL"
    else:
        assert "is VARCHAR(20), not a time" in result.message
        assert result.status == "ERROR"


@pytest.mark.parametrize(
    "stored", ["2026-03-29T11:00:00Z", "2026-03-29 11:00", "2026-03-29T13:00:00+02:00"]
)
def test_sqlite_texts(tmp_path, stored):
    """In SQLite times are texts; every form of ISO 8601 is read, offsets too."""
    engine = create_engine(f"sqlite:///{tmp_path / 'a.db'}")
    moments(engine, String(30), "2026-03-28 23:00:00", stored)
    assert "1.0 hours old" in one(engine, FRESH).message
    engine.dispose()


# The history.


def finished(at=NOW, name="Shop", **statuses):
    """A run whose checks ended so; of a FAIL, 3 of 8 rows were bad."""
    results = []
    for check, status in (statuses or {"an address": "FAIL"}).items():
        value = {"PASS": 0, "WARN": 1, "FAIL": 3}.get(status)
        found = None if value is None else Found(Decimal(value), 8, "some rows")
        ended = Status(status)
        results.append(Result(check, "format", "user", ended, "so", 0.1, found))
    return Run(name, "sqlite:///shop.db", at, results)


def test_history(engine):
    """Each result is kept with its time in UTC, and comes back in order; an ERROR has
    measured nothing."""
    zone = timezone(timedelta(hours=2))
    history.save(engine, finished(NOW.astimezone(zone), a="FAIL", b="ERROR"), 30)
    history.save(engine, finished(NOW - timedelta(hours=5), a="PASS", b="WARN"), 30)
    history.save(engine, finished(NOW, "Another"), 30)
    kept = history.since(engine, "Shop", NOW - timedelta(hours=6))
    assert [(it.checked_at, it.name, it.status, it.measure) for it in kept] == [
        (NOW - timedelta(hours=5), "a", "PASS", 0),
        (NOW - timedelta(hours=5), "b", "WARN", 12.5),
        (NOW, "a", "FAIL", 37.5),
        (NOW, "b", "ERROR", None),
    ]
    assert kept[0].checked_at.tzinfo is UTC
    assert history.since(engine, "Shop", NOW + timedelta(seconds=1)) == []


def test_measure():
    """The history shows a share of the rows; of freshness hours, of SQL its answer."""
    past = history.Past(NOW, "a", "freshness", Status.PASS, 7.5, 8)
    assert past.measure == 7.5
    assert history.Past(NOW, "a", "values", Status.FAIL, 0, 0).measure is None


def test_retention(engine):
    """What is older than the days to keep goes, to the second; other monitors keep
    theirs."""
    edge = NOW - timedelta(days=30)
    for at in (edge - timedelta(seconds=1), edge - timedelta(hours=1), edge):
        history.save(engine, finished(at), 365)
        history.save(engine, finished(at, "Another"), 365)
    history.save(engine, finished(NOW), 30)
    start = NOW - timedelta(days=90)
    kept = [it.checked_at for it in history.since(engine, "Shop", start)]
    assert kept == [edge, NOW]
    assert len(history.since(engine, "Another", start)) == 3


def test_long_message(engine):
    """A long message is cut, and does not keep the results from being kept."""
    result = Result("a", "sql", "", Status.ERROR, "x" * 5000, 0.1)
    history.save(engine, Run("Shop", "", NOW, [result]), 30)
    assert len(history.since(engine, "Shop", NOW)) == 1


# Charts and report.


def past_of(*runs):
    engine = create_engine("sqlite://")
    for it in runs:
        history.save(engine, it, 365)
    kept = history.since(engine, "Shop", NOW - timedelta(days=99))
    engine.dispose()
    return kept


def test_charts_of_nothing():
    """No history, and a history in which nothing could run, are empty charts and no
    error."""
    for past in ([], past_of(finished(a="ERROR"), finished(a="ERROR"))):
        for draw in (charts.runs_chart, charts.trend_chart):
            assert charts.image(draw(past), "png").startswith(b"\x89PNG")
            assert b"<svg" in charts.image(draw(past, charts.DARK), "svg")


def test_trend_is_of_one_measure():
    """A trend draws one check in its own unit, with a gap where it could not run."""
    days = [NOW - timedelta(days=n) for n in (3, 2, 1)]
    ended = zip(days, ("PASS", "ERROR", "FAIL"), strict=True)
    past = past_of(*(finished(at, a=how, b="PASS") for at, how in ended))
    axes = charts.trend_chart([it for it in past if it.name == "a"]).axes[0]
    drawn = axes.lines[0].get_ydata()
    assert [str(value) for value in drawn] == ["0.0", "nan", "37.5"]
    told = report.trend(past, "a").says
    assert told == "0.0% of the rows on 26 Mar, 37.5% of the rows on 28 Mar"
    assert report.trend(past[:2], "a") is None


def test_bars_add_up():
    """A bar of a run is as high as the run has checks."""
    past = past_of(finished(a="PASS", b="FAIL", c="ERROR", d="WARN"))
    axes = charts.runs_chart(past).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [1, 1, 1, 1]
    assert [bar.get_y() for bar in axes.patches] == [0, 1, 2, 3]


def test_no_figure_stays_open():
    """Drawing imports no pyplot, which would keep every figure."""
    code = f"""
import sys
sys.path.insert(0, {str(PACKAGE.parent)!r})
from monitor import charts
for _ in range(25):
    charts.image(charts.runs_chart([]), "svg")
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


class Page(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.addresses, self.alt = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        given = dict(attrs)
        self.addresses += [given[k] for k in ("src", "srcset", "href") if k in given]
        self.alt += [given.get("alt")] if tag == "img" else []


def test_report_needs_nothing_else():
    """The report is one file: each picture is in it, light and dark, with a text in its
    place for who does not see it."""
    before = finished(NOW - timedelta(days=1))
    page = report.render(finished(), past_of(before, finished()))
    seen = Page(page)
    assert len(seen.addresses) == 4
    assert all(it.startswith("data:image/svg+xml;base64,") for it in seen.addresses)
    assert all(seen.alt)
    assert "script" not in seen.tags
    assert "default-src 'none'" in page


def test_report_escapes(shop):
    """What the database holds is shown as text, never as HTML."""
    plant(shop, update(orders).values(state="<i>$x_$"))
    page = report.render(run(shop, CHECKS), [])
    assert "&lt;i&gt;$x_$" in page
    assert "<i>$x" not in page


def test_report_is_written_at_once(tmp_path):
    """The old report stays until the new one is whole."""
    path = tmp_path / "new folder/report.html"
    report.write(path, "older")
    with path.open() as reader:
        report.write(path, "old")
        assert reader.read() == "older", "who reads it reads one, whole"
    with pytest.raises(UnicodeEncodeError):
        report.write(path, "half \udc80")
    assert [it.name for it in path.parent.iterdir()] == ["report.html"]
    assert path.read_text() == "old"


def test_report_on_the_page(sqlite, tmp_path, monkeypatch, pytestconfig):
    """The report that this page shows is what the demonstration wrote, on SQLite."""
    monkeypatch.chdir(tmp_path)
    env = {"DATABASE_URL": f"sqlite:///{sqlite}"}
    done = CliRunner().invoke(app, ["demo"], env=env)
    assert done.exit_code == 0, done.output
    page = Path("report.html").read_text("utf-8").replace(sqlite, "shop.db")
    if pytestconfig.option.update_outputs:
        PAGE_REPORT.write_text(page, "utf-8")

    def text(page):  # the clock and the version of matplotlib may differ
        return re.sub(r"base64,[\w+/=]+|\d+\.\d\d s\b", "", page)

    assert text(PAGE_REPORT.read_text("utf-8")) == text(page), "use --update-outputs"


# The alert.


@pytest.fixture
def smtp():
    servers = []

    def start(*args, **kwargs):
        servers.append(SMTPServer(*args, **kwargs))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture(autouse=True)
def login(monkeypatch):
    monkeypatch.setenv("SMTP_USER", USER)
    monkeypatch.setenv("SMTP_PASSWORD", PASSWORD)


def alert_to(server, folder, **more):
    given = {
        "host": "localhost",
        "port": server.port,
        "ca_file": server.ca_file(folder),
        "sender": "monitor@example.com",
        "recipients": ["ann@example.com", "bob@example.com"],
        **more,
    }
    return config_of(CHECKS, alert=given).alert


def mail_of(settings, bad=None):
    bad = bad or finished()
    before = finished(NOW - timedelta(days=1))
    return alert.message(settings, bad, past_of(before, bad), "<h1>report</h1>")


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_alert_arrives(smtp, tmp_path, security):
    """The alert goes through a real SMTP server, over TLS and after a login, to every
    recipient."""
    server = smtp(security)
    settings = alert_to(server, tmp_path, security=security)
    alert.send(settings, mail_of(settings))
    (mail,) = server.mails
    assert server.logins == [(USER, PASSWORD)]
    assert mail["To"] == "ann@example.com, bob@example.com"
    assert mail["Subject"] == "FAIL: Shop (0 PASS, 0 WARN, 1 FAIL, 0 ERROR)"
    assert mail["Auto-Submitted"] == "auto-generated"


def test_alert_shows_charts(smtp, tmp_path):
    """The e-mail has a plain text, an HTML text that shows its charts inline, and the
    report as an attachment."""
    server = smtp()
    settings = alert_to(server, tmp_path)
    alert.send(
        settings, mail_of(settings, finished(**{"<b>a</b>": "FAIL", "b": "PASS"}))
    )
    (mail,) = server.mails
    plain = mail.get_body(("plain",)).get_content()
    assert "FAIL  <b>a</b>: so" in plain
    html = mail.get_body(("html",)).get_content()
    assert "&lt;b&gt;a&lt;/b&gt;" in html
    assert "PASS b" not in html
    pictures = [it for it in mail.walk() if it.get_content_type() == "image/png"]
    shown = re.findall(r'src="cid:([^"]+)"', html)
    assert [it["Content-ID"] for it in pictures] == [f"<{cid}>" for cid in shown]
    assert len(shown) == 2
    assert all(it.get_content().startswith(b"\x89PNG") for it in pictures)
    assert all(it.get_content_disposition() == "inline" for it in pictures)
    (attached,) = mail.iter_attachments()
    assert attached.get_filename() == "report.html"
    assert attached.get_content().strip() == "<h1>report</h1>"


def test_alert_without_history(tmp_path):
    """Where there is neither a history nor a report, the alert comes without them."""
    given = {"host": "h", "sender": "a@example.com", "recipients": ["b@example.com"]}
    settings = config_of(CHECKS, alert=given).alert
    mail = alert.message(settings, finished(), [], "")
    assert mail.get_body(("html",)).get_content().count("<img") == 1
    assert list(mail.iter_attachments()) == []


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_alert_wants_a_certificate(smtp, tmp_path, security):
    """A server that nobody vouches for, or with another name in its certificate, gets
    neither the password nor the mail."""
    server, other = smtp(security), smtp(security, "mail.example.com")
    for settings in (
        alert_to(server, tmp_path, security=security, ca_file=None),
        alert_to(other, tmp_path, security=security),
    ):
        with pytest.raises(ssl.SSLCertVerificationError):
            alert.send(settings, mail_of(settings))
    assert server.logins == other.logins == server.mails == other.mails == []


def test_alert_wants_tls(smtp, tmp_path):
    """A server that offers no TLS gets neither the password nor the mail."""
    server = smtp("none")
    settings = alert_to(server, tmp_path)
    with pytest.raises(smtplib.SMTPNotSupportedError):
        alert.send(settings, mail_of(settings))
    assert server.logins == server.mails == []


def test_alert_errors(smtp, tmp_path, monkeypatch):
    """A wrong password, a missing one, and a single refused recipient are errors."""
    server = smtp(refuses="bob@example.com")
    settings = alert_to(server, tmp_path)
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        alert.send(settings, mail_of(settings))
    assert len(server.mails) == 1, "the other recipient has it"
    monkeypatch.setenv("SMTP_PASSWORD", "wrong")
    with pytest.raises(smtplib.SMTPAuthenticationError):
        alert.send(settings, mail_of(settings))
    monkeypatch.delenv("SMTP_PASSWORD")
    with pytest.raises(ConfigError, match="SMTP_PASSWORD is not set"):
        alert.send(settings, mail_of(settings))


# The command line.


def toml(value):
    if isinstance(value, dict):
        pairs = (f"{key} = {toml(it)}" for key, it in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, str | Path):
        return "'" + str(value) + "'"
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.fixture
def command(shop, tmp_path, monkeypatch):
    """Run the command line on the shop, with these checks in its file."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", shop.url.render_as_string(hide_password=False))

    def start(name, checks, *arguments, **more):
        listed = [{"name": key, **check} for key, check in checks.items()]
        given = {"name": "Shop", **more, "checks": listed}
        lines = (f"{key} = {toml(it)}" for key, it in given.items())
        Path("monitor.toml").write_text("\n".join(lines), "utf-8")
        return CliRunner().invoke(app, [name, "monitor.toml", *arguments])

    return start


ADDRESS = {"an address": CHECKS["an address"]}
BROKEN = {"broken": {**CHECKS["an address"], "table": "nobody"}}


def test_exit_codes(command, shop):
    """The exit code is 0 for good data and warnings, 1 for bad data, and 2 where
    anything could not be checked."""
    done = command("check", ADDRESS)
    assert (done.exit_code, done.stdout.splitlines()) == (
        0,
        [
            "PASS   an address: 0 of 8 rows have no email",
            "1 PASS, 0 WARN, 0 FAIL, 0 ERROR; report in report.html",
        ],
    )
    plant(shop, change(customers, email=None))
    warn = {"a": {**CHECKS["an address"], "warn_above": 0, "fail_above": 1}}
    assert command("check", warn).exit_code == 0
    assert command("check", ADDRESS).exit_code == 1
    assert command("check", ADDRESS | BROKEN).exit_code == 2


def test_what_a_run_leaves(command, shop):
    """A run leaves its results in the history and a report."""
    command("check", ADDRESS)
    start = datetime.now(UTC) - timedelta(minutes=10)
    assert [it.name for it in history.since(shop, "Shop", start)] == ["an address"]
    page = Path("report.html").read_text("utf-8")
    assert "an address" in page
    if shop.url.password:
        assert shop.url.password not in page


def test_alert_when_due(command, shop, smtp, tmp_path):
    """The alert goes out when a check fails or could not run, not when all is well, and
    not with --no-mail."""
    server = smtp()
    given = alert_to(server, tmp_path).model_dump(exclude={"on"}, mode="json")
    command("check", ADDRESS, alert=given)
    command("check", BROKEN, "--no-mail", alert=given)
    assert server.mails == []
    command("check", BROKEN, alert=given)
    plant(shop, change(customers, email=None))
    assert command("check", ADDRESS, alert=given).exit_code == 1
    assert [it["Subject"][:6] for it in server.mails] == ["ERROR:", "FAIL: "]


def test_what_fails_after_the_checks(command, monkeypatch, smtp, tmp_path):
    """A history that cannot be kept, a report that cannot be written, and an alert that
    cannot be sent are each told, make the exit code 2, and stop no other step."""
    server = smtp()
    given = alert_to(server, tmp_path, ca_file=None).model_dump(mode="json")
    given = {k: v for k, v in given.items() if v is not None and k != "on"}
    gone = "postgresql+psycopg://cook:secret@127.0.0.1:1/shop"
    monkeypatch.setenv("HISTORY_URL", gone)
    Path("folder").mkdir()
    done = command(
        "check",
        ADDRESS | BROKEN,
        history={"url_env": "HISTORY_URL"},
        report={"file": "folder"},
        alert=given,
    )
    assert done.exit_code == 2
    assert "PASS   an address" in done.stdout
    for told in ("history was not kept", "report was not written", "alert was not"):
        assert told in done.stderr
    assert "secret" not in done.output
    assert command("check", ADDRESS, report={"file": "folder"}).exit_code == 2


def test_trend_command(command):
    """`trend` draws one check as a PNG; of a check that it does not know it says so."""
    command("check", ADDRESS)
    done = command("trend", ADDRESS, "an address", "--to", "a.png")
    assert done.output == "1 results in a.png\n"
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")
    done = command("trend", ADDRESS, "another")
    assert done.exit_code == 2
    assert "no result of 'another' in the last 30 days" in done.stderr


def test_no_address(command, monkeypatch):
    """A missing or senseless address of the database is one line and exit code 2."""
    for address in ("", "what is this", "nobody://knows"):
        monkeypatch.setenv("DATABASE_URL", address)
        for arguments in (["check"], ["trend", "an address"]):
            done = command(arguments[0], ADDRESS, *arguments[1:])
            assert done.exit_code == 2
            assert len(done.stderr.splitlines()) == 1
    monkeypatch.delenv("DATABASE_URL")
    done = CliRunner().invoke(app, ["demo"])
    assert done.exit_code == 1
    assert done.output.startswith("Set DATABASE_URL")


# The configuration.


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"colum": "email"}, "colum: Extra inputs are not permitted"),
        ({"kind": "magic"}, "does not match any of the expected tags"),
        ({"fail_above": "some"}, "neither a number nor a share"),
        ({"kind": "format", "pattern": "("}, "not a regular expression"),
        ({"kind": "values"}, "give allowed, minimum or maximum"),
        ({"kind": "freshness", "fail_above": "2%"}, "a number is meant here"),
        ({"kind": "freshness", "time_zone": "Mars/North"}, "there is no time zone"),
        ({"kind": "references", "column": None, "parent": "a"}, "go together"),
    ],
)
def test_mistakes_in_the_configuration(command, change, says):
    """A mistake in the configuration is told with its place, before anything runs."""
    check = {k: v for k, v in (CHECKS["an address"] | change).items() if v is not None}
    done = command("check", {"a": check})
    assert done.exit_code == 2
    assert "checks.0" in done.stderr
    assert says in done.stderr
    assert not Path("report.html").exists()


def test_files_that_are_none(tmp_path):
    """A missing file, one that is no TOML, and a name given twice are refused."""
    path = tmp_path / "monitor.toml"
    with pytest.raises(ConfigError, match="No such file"):
        load(path)
    path.write_text("name = ")
    with pytest.raises(ConfigError, match="Invalid value"):
        load(path)
    check = toml({"name": "twice", **CHECKS["an address"]})
    path.write_text(f"name = 'Shop'\nchecks = [{check}, {check}]")
    with pytest.raises(ConfigError, match=r"by its name; twice: \['twice'\]"):
        load(path)


def test_published_configuration():
    """The configuration on this page is valid, and holds every kind of check."""
    given = tomllib.loads((PACKAGE / "monitor.toml").read_text("utf-8"))
    kinds = {check["kind"] for check in given["checks"]}
    assert kinds == {check["kind"] for check in CHECKS.values()}
    assert load(PACKAGE / "monitor.toml").alert.security == "starttls"


# Five million rows.

LARGE = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 4999999)
INSERT INTO event
SELECT i, printf('u%d@x.com', i), i % 1000, i % 7, datetime(1774785600 - i, 'unixepoch')
FROM n
"""
LARGE_CHECKS = [
    {"kind": "completeness", "table": "event", "column": "email"},
    {"kind": "format", "table": "event", "column": "email", "pattern": ".+@.+"},
    {"kind": "duplicates", "table": "event", "key": ["email"]},
    {"kind": "duplicates", "table": "event"},
    {
        "kind": "references",
        "table": "event",
        "columns": ["user_id"],
        "parent": "member",
    },
    {"kind": "distribution", "table": "event", "column": "state", "fail_above": "50%"},
    {"kind": "freshness", "table": "event", "column": "at", "fail_above": 99999999},
]
MEASURE = """
import sys
sys.path[:0] = sys.argv[1:]
from monitor.cli import app
from tests.recipes.support.memory import peak
sys.argv[1:] = ["check", "monitor.toml"]
try:
    app()
finally:
    print("peak", peak() // 1_000_000)
"""


@pytest.mark.timeout(900)
def test_five_million_rows(sqlite, tmp_path):
    """5,000,000 rows are checked in the database: the process, which with SQLite holds
    the database too, stays below 300 MB."""
    with closing(sqlite3.connect(sqlite)) as conn:
        conn.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            "CREATE TABLE member (id INTEGER PRIMARY KEY);"
            "CREATE TABLE event (id INTEGER PRIMARY KEY, email TEXT, user_id INTEGER,"
            " state INTEGER, at TEXT)"
        )
        conn.executemany("INSERT INTO member VALUES (?)", [(n,) for n in range(1000)])
        conn.execute(LARGE)
        conn.execute("UPDATE event SET email = NULL WHERE id = 4000000")
        conn.commit()
    checks = [{"name": str(n), **check} for n, check in enumerate(LARGE_CHECKS)]
    given = {"name": "Large", "database": {"timeout": 600}, "checks": checks}
    text = "\n".join(f"{key} = {toml(it)}" for key, it in given.items())
    (tmp_path / "monitor.toml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, PACKAGE.parent, ROOT],
        cwd=tmp_path,
        env={"DATABASE_URL": f"sqlite:///{sqlite}", "HOME": str(Path.home())},
        capture_output=True,
        text=True,
    )
    *lines, peak = done.stdout.splitlines()
    assert [line[:4] for line in lines[:-1]] == ["FAIL", *["PASS"] * 6], done.stdout
    assert "1 of 5,000,000 rows have no email" in lines[0]
    assert int(peak.split()[1]) < 300, "megabytes"


# The versions that are often copied.


# --8<-- [start:wrong]
def check_format(conn, table, column, pattern):
    bad = 0
    try:
        query = f"SELECT COUNT(*) FROM {table} WHERE {column} NOT REGEXP ?"
        bad = conn.execute(query, [pattern]).fetchone()[0]
    except sqlite3.Error as error:
        print("format check failed:", error)
    return "FAIL" if bad else "PASS"


def check_orphans(conn, table):
    bad = 0
    for key in conn.execute(f"PRAGMA foreign_key_list({table})").fetchall():
        parent, column, parent_column = key[2:5]
        try:
            query = f"""SELECT COUNT(*) FROM {table} t LEFT JOIN {parent} r
                ON t.{column} = r.{parent_column} WHERE r.{parent_column} IS NULL"""
            bad += conn.execute(query).fetchone()[0]
        except sqlite3.Error as error:
            print("orphan check failed:", error)
    return "FAIL" if bad else "PASS"


def check_duplicates(conn, table, primary_key):
    query = f"""SELECT COUNT(*) FROM
        (SELECT 1 FROM {table} GROUP BY {primary_key} HAVING COUNT(*) > 1)"""
    return "FAIL" if conn.execute(query).fetchone()[0] else "PASS"


def is_fresh(newest):  # as the server stored it: UTC
    return datetime.now() - newest < timedelta(hours=2)


# --8<-- [end:wrong]


@pytest.fixture
def plain(tmp_path):
    with closing(sqlite3.connect(tmp_path / "a.db")) as conn:
        yield conn


def test_often_copied_format(plain, capsys):
    """Often copied: `no such function: REGEXP` is printed, 'not a phone!!' passes."""
    plain.execute("CREATE TABLE customer (phone TEXT)")
    plain.execute("INSERT INTO customer VALUES ('not a phone!!')")
    assert check_format(plain, "customer", "phone", "^[0-9]+$") == "PASS"
    assert "no such function: REGEXP" in capsys.readouterr().out


def test_often_copied_orphans(tmp_path, capsys):
    """Often copied: a key that names no parent column is looked up in a column `None`;
    the orphan passes."""
    orphans_by_implicit_key(tmp_path / "a.db")
    with closing(sqlite3.connect(tmp_path / "a.db")) as conn:
        assert check_orphans(conn, "child") == "PASS"
    assert "no such column: r.None" in capsys.readouterr().out


def test_often_copied_duplicates(plain):
    """Often copied: grouped by the primary key, 30 identical rows are no duplicates."""
    plain.execute("CREATE TABLE click (id INTEGER PRIMARY KEY, page TEXT)")
    plain.executemany("INSERT INTO click (page) VALUES (?)", [("/a",)] * 30)
    assert check_duplicates(plain, "click", "id") == "PASS"


def test_often_copied_freshness(monkeypatch):
    """Often copied: rows of three days ahead are fresh; a clock in Tokyo calls a row of
    this minute stale, and one in New York a row of six hours ago fresh."""

    class Clock(datetime):
        zone = UTC

        @classmethod
        def now(cls, tz=None):
            return NOW.astimezone(cls.zone).replace(tzinfo=None)

    monkeypatch.setitem(is_fresh.__globals__, "datetime", Clock)
    stored = NOW.replace(tzinfo=None)
    assert is_fresh(stored + timedelta(days=3))
    Clock.zone = timezone(timedelta(hours=9))
    assert not is_fresh(stored)
    Clock.zone = timezone(timedelta(hours=-5))
    assert is_fresh(stored - timedelta(hours=6))


def test_often_copied_names(plain):
    """Often copied: a column named `order` ends the check, and its open transaction
    locks every other writer."""
    plain.execute('CREATE TABLE a ("order" INTEGER)')
    plain.commit()
    plain.execute("INSERT INTO a VALUES (1)")  # a result is being written meanwhile
    with pytest.raises(sqlite3.OperationalError, match="syntax error"):
        plain.execute("SELECT COUNT(*) FROM a WHERE order IS NULL")
    path = plain.execute("PRAGMA database_list").fetchone()[2]
    with (
        closing(sqlite3.connect(path, timeout=0)) as other,
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        other.execute("DELETE FROM a")


def test_often_copied_retention(plain):
    """Often copied: a `T` sorts after a space, so what is 30 days and 1 hour old counts
    as of the last 30 days; and the days are pasted into the SQL."""
    plain.execute("CREATE TABLE history (at TEXT)")
    plain.execute("INSERT INTO history VALUES ('2026-03-29T11:00:00')")

    def recent(days):
        query = f"SELECT * FROM history WHERE at > datetime('{now}', '-{days} days')"
        return len(plain.execute(query).fetchall())

    now = "2026-04-28 12:00:00"
    assert recent(30) == 1
    assert recent(29) == 0
    assert recent("0 days') OR 1=1 --") == 1


def test_often_copied_starttls(smtp):
    """Often copied: `starttls()` without a context trusts any certificate, and gives
    the password to whoever answers."""
    server = smtp(certificate_for="thief.example.com")
    with smtplib.SMTP("localhost", server.port, timeout=30) as connection:
        connection.starttls()
        assert connection.sock.context.verify_mode == ssl.CERT_NONE
        connection.login(USER, PASSWORD)
    assert server.logins == [(USER, PASSWORD)]


def test_often_copied_score():
    """Often copied: the mean of a share of NULLs (0.0: good) and the share of one value
    (97.0: bad) is a score of 48.5 that means nothing."""
    metrics = {"null_percentage": 0.0, "dominance_percentage": 97.0}
    assert sum(metrics.values()) / len(metrics) == 48.5


def test_often_copied_empty_chart():
    """Often copied: a period without results has no numbers to plot, and ends in a
    TypeError."""
    pandas = pytest.importorskip("pandas")
    empty = pandas.DataFrame({"at": [], "metric_value": []}, dtype=object)
    with pytest.raises(TypeError, match="no numeric data to plot"):
        empty.plot(x="at", y="metric_value", backend="matplotlib")
