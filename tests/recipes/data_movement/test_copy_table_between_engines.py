import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import permutations, product

import pandas as pd
import psycopg
import pytest
import sqlalchemy as sa
from rich.console import Console
from rich.progress import track

from cookbook.paths import ROOT
from recipes.data_movement import copy_table_between_engines_postgresql as pipe
from recipes.data_movement.copy_table_between_engines import last_key, write_rows
from recipes.data_movement.copy_table_between_engines_read import (
    checksum,
    moment,
    read_rows,
)
from tests.recipes.support.every_type import (
    FORMS,
    NAMES,
    ROWS,
    TYPES,
    create,
    engine_for,
    fill,
    many,
)


@contextmanager
def two_places(kind, address, tmp_path):
    """Two addresses of that engine: the given one, and another one beside it."""
    if kind == "sqlite":
        yield address, str(tmp_path / "other.db")
        return
    engine = engine_for(address)
    other = f"{engine.url.database}_2"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        more = " CHARACTER SET utf8mb4" if kind == "mysql" else ""
        conn.exec_driver_sql(f"CREATE DATABASE {other}{more}")
        yield address, address.rpartition("/")[0] + f"/{other}"
        force = " WITH (FORCE)" if kind == "postgresql" else ""
        conn.exec_driver_sql(f"DROP DATABASE {other}{force}")


@pytest.fixture
def places(sqlite, postgresql, mysql, tmp_path):
    """For each kind of engine two empty places."""
    with (
        two_places("sqlite", sqlite, tmp_path) as of_sqlite,
        two_places("postgresql", postgresql, tmp_path) as of_postgresql,
        two_places("mysql", mysql, tmp_path) as of_mysql,
    ):
        yield {"sqlite": of_sqlite, "postgresql": of_postgresql, "mysql": of_mysql}


def native(engine, sql):
    """What the engine itself says, through the plain driver."""
    raw = engine.raw_connection()
    cursor = raw.cursor()
    cursor.execute(sql)
    rows = [tuple(row) for row in cursor.fetchall()]
    raw.close()
    return rows


# --8<-- [start:together]
def copy_table(source, target, table, key, refused):
    """Copy what is not there yet; return how many rows the target refused."""
    with source.connect() as conn:
        total = conn.scalar(sa.select(sa.func.count()).select_from(sa.table(table)))
    rows = read_rows(source, table, after=last_key(target, table, key))
    bar = track(rows, table, total=total, console=Console(stderr=True))
    return write_rows(target, table, key, bar, refused)


# --8<-- [end:together]


def checksums(*engines, table="thing"):
    return [check(list(read_rows(engine, table))) for engine in engines]


def check(rows):
    """The checksum, with the forms of the columns that are there."""
    return checksum(rows, {n: f for n, f in FORMS.items() if n in rows[0]})


def from_to(places, one, other):
    """Engines for the first place of one kind, and for the second of the other."""
    return engine_for(places[one][0]), engine_for(places[other][1])


@pytest.mark.parametrize(("one", "other"), [*product(NAMES, NAMES)])
def test_hostile_values_in_every_direction(places, tmp_path, one, other):
    """In all nine directions: integers and floats at their limits, 38 digits, the years
    1 to 9999, every Unicode plane, control characters, JSON, bytes and NULL arrive."""
    source, target = from_to(places, one, other)
    for engine in (source, target):
        create(engine)
    rows = ROWS
    fill(source, rows)
    assert copy_table(source, target, "thing", "id", tmp_path / "refused") == 0
    for row, arrived in zip(
        read_rows(source, "thing"), read_rows(target, "thing"), strict=True
    ):
        for name, value in row.items():
            form = FORMS.get(name, lambda same: same)
            expected, found = (
                v if v is None else form(v) for v in (value, arrived[name])
            )
            assert (name, expected) == (name, found)
    before, after = checksums(source, target)
    assert before == after
    assert before[0] == len(rows)


def test_sqlite_types_of_python(tmp_path):
    """A moment with an offset, as Python writes it to SQLite, is the same moment."""
    rows = [{"at": "2026-03-01T12:00:00+02:00"}], [{"at": "2026-03-01 10:00:00.000"}]
    assert len({checksum(one, {"at": moment}) for one in rows}) == 1


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("id", 1, 2),
        ("ratio", 0.1, 0.10000000000000002),
        ("amount", "0.1", "0.10000000001"),
        ("amount", "0.1", None),
        ("at", "2026-01-01 00:00:00", "2026-01-01 00:00:00.000001"),
        ("note", "a", "A"),
        ("note", "", None),
        ("note", "a\u0301", "\u00e1"),
        ("body", '{"a": 9007199254740993}', '{"a": 9007199254740992}'),
        ("body", '{"a": 5}', '{"a": "5"}'),
        ("body", "null", None),
        ("raw", b"a", b"b"),
    ],
)
def test_checksum_sees_every_difference(name, one, other):
    """The checksum changes with the last digit, the case, an accent, NULL, a JSON
    number that becomes text."""
    first, second = (
        check([{"x": 1, name: value}, {"x": 2, name: None}]) for value in (one, other)
    )
    assert first != second


def test_checksum_does_not_depend_on_order():
    """Rows and columns in another order, and numbers and JSON spaced differently, have
    the same checksum; a row that is there twice has not."""
    rows = [{"id": 1, "amount": "1.50"}, {"id": 2, "amount": "100"}]
    other = [{"amount": "100.000", "id": 2}, {"amount": "1.5", "id": 1}]
    assert check([*map(dict, rows)]) == check([*map(dict, other)])
    assert check([*rows, dict(rows[0])]) != check(other)
    bodies = '{"a": 1e2, "b": 1.50}', '{"b":1.5,"a":100}'
    assert len({check([{"body": body}]) for body in bodies}) == 1


REFUSALS = [
    # source, target, column, value that the target cannot hold
    ("sqlite", "postgresql", "note", "with \0"),
    ("mysql", "postgresql", "note", "with \0"),
    ("sqlite", "postgresql", "amount", "31.12.2019"),
    ("sqlite", "mysql", "amount", "1.234,50"),
    ("sqlite", "mysql", "day", "2026-02-30"),
    ("sqlite", "postgresql", "day", "2026-02-30"),
    ("sqlite", "postgresql", "small", 2**31),
    ("sqlite", "mysql", "small", 2**31),
    ("sqlite", "mysql", "at", "12000-01-01 00:00:00"),
    ("postgresql", "mysql", "at", "infinity"),
    ("postgresql", "mysql", "amount", "NaN"),
    ("postgresql", "mysql", "ratio", float("nan")),
    ("postgresql", "sqlite", "ratio", float("nan")),
    ("postgresql", "mysql", "ratio", float("inf")),
    ("sqlite", "postgresql", "body", "{no json"),
    ("sqlite", "mysql", "body", "{no json"),
]


@pytest.mark.parametrize(("one", "other", "name", "value"), REFUSALS)
def test_refused_rows_go_to_the_file(places, tmp_path, one, other, name, value):
    """A value that the target cannot hold: its row is in the file, with the key and the
    reason; all other rows arrive, and none is in neither."""
    source, target = from_to(places, one, other)
    columns = ("id", name)
    for engine in (source, target):
        create(engine, columns=columns)
    fill(
        source,
        [(n, value if n in (3, 40, 41) else None) for n in range(100)],
        columns=columns,
    )
    file = tmp_path / "refused"
    assert copy_table(source, target, "thing", "id", file) == 3
    lines = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert [line["row"]["id"] for line in lines] == [3, 40, 41]
    assert all(line["row"][name] is not None and line["error"] for line in lines)
    arrived = [n for (n,) in native(target, "SELECT id FROM thing ORDER BY id")]
    assert arrived == [n for n in range(100) if n not in (3, 40, 41)]


@pytest.mark.parametrize("kind", NAMES)
def test_constraints_refuse(places, tmp_path, kind):
    """A CHECK, a NOT NULL or a UNIQUE of the target refuses rows, on every engine."""
    source, target = from_to(places, "sqlite", kind)
    create(source, columns=("id", "small"))
    quote = target.dialect.identifier_preparer.quote
    with target.begin() as conn:
        conn.exec_driver_sql(
            f"CREATE TABLE thing (id bigint PRIMARY KEY, {quote('small')} integer"
            " NOT NULL UNIQUE CHECK (small > 0))"
        )
    fill(source, [(1, 1), (2, 0), (3, None), (4, 1), (5, 5)], columns=("id", "small"))
    file = tmp_path / "refused"
    assert copy_table(source, target, "thing", "id", file) == 3
    assert native(target, "SELECT id FROM thing ORDER BY id") == [(1,), (5,)]
    lines = map(json.loads, file.read_text("utf-8").splitlines())
    assert [line["row"]["id"] for line in lines] == [2, 3, 4]


def test_bytes_in_the_file(places, tmp_path):
    """Bytes are hexadecimal in the file of refused rows."""
    source, target = from_to(places, "sqlite", "postgresql")
    for engine in (source, target):
        create(engine, columns=("id", "note", "raw"))
    fill(source, [(1, "\0", b"\x00\xff")], columns=("id", "note", "raw"))
    copy_table(source, target, "thing", "id", tmp_path / "refused")
    line = json.loads((tmp_path / "refused").read_text("utf-8"))
    assert line["row"] == {"id": 1, "note": "\0", "raw": "00ff"}


@pytest.mark.parametrize("kind", NAMES)
def test_no_table_at_the_target(places, tmp_path, kind):
    """What is no fault of a row is raised, and no row is called refused."""
    source, target = from_to(places, "sqlite", kind)
    create(source, columns=("id",))
    fill(source, [(1,)], columns=("id",))
    rows = read_rows(source, "thing")
    with pytest.raises(sa.exc.DBAPIError):
        write_rows(target, "thing", "id", rows, tmp_path / "refused")
    create(target, columns=("id",), table="other")
    assert (tmp_path / "refused").read_bytes() == b""


def test_lost_connection(places, tmp_path, fault_proxy):
    """The connection is lost at the COPY of a batch: that is raised, and the next call
    copies what is missing."""
    source, target = from_to(places, "sqlite", "postgresql")
    for engine in (source, target):
        create(engine, columns=("id",))
    fill(source, [(n,) for n in range(12_000)], columns=("id",))
    proxy = fault_proxy(places["postgresql"][1])
    proxy.cut_before(b"COMMIT")
    with pytest.raises(sa.exc.OperationalError):
        copy_table(source, engine_for(proxy.url), "thing", "id", tmp_path / "refused")
    assert proxy.was_cut.is_set()
    assert copy_table(source, target, "thing", "id", tmp_path / "refused") == 0
    assert len({*checksums(source, target)}) == 1


def test_busy_target(places, tmp_path):
    """A lock that is not given in time is raised, and no row is called refused."""
    source, target = from_to(places, "postgresql", "mysql")
    for engine in (source, target):
        create(engine, columns=("id",))
    fill(source, [(1,)], columns=("id",))
    sa.event.listen(
        target,
        "connect",
        lambda raw, _: raw.cursor().execute("SET innodb_lock_wait_timeout = 1"),
    )
    with target.connect() as holder:
        holder.exec_driver_sql("INSERT INTO thing VALUES (1)")
        rows = read_rows(source, "thing")
        with pytest.raises(sa.exc.OperationalError, match="1205"):
            write_rows(target, "thing", "id", rows, tmp_path / "refused")
        holder.rollback()
    assert copy_table(source, target, "thing", "id", tmp_path / "refused") == 0


KILLED = """
import os, signal, sys
from pathlib import Path
from recipes.data_movement import copy_table_between_engines as writer
from recipes.data_movement import copy_table_between_engines_read as reader
import sqlalchemy as sa

source, target, refused, moment = sys.argv[1:]
source, target = map(sa.create_engine, (source, target))
seen = 0

def die(*_):
    global seen
    seen += 1
    if seen == 3:
        os.kill(os.getpid(), signal.SIGKILL)

sa.event.listen(target, moment, die)
rows = reader.read_rows(source, "thing", writer.last_key(target, "thing", "id"))
writer.write_rows(target, "thing", "id", rows, Path(refused))
"""


@pytest.mark.parametrize("moment", ["commit", "savepoint"])
@pytest.mark.parametrize("kind", NAMES)
def test_killed_in_the_middle(places, tmp_path, kind, moment):
    """The process is killed with SIGKILL in the middle, before a commit or while it
    writes: the next one goes on, and every row is there once, or refused once."""
    one = "postgresql" if kind == "sqlite" else "sqlite"
    source, target = from_to(places, one, kind)
    create(source, columns=("id", "small"))
    with target.begin() as conn:
        conn.exec_driver_sql(
            "CREATE TABLE thing (id bigint PRIMARY KEY, small integer NOT NULL)"
        )
    bad = {7, 5_000, 9_999, 19_999}  # none in the third batch
    rows = [(n, None if n in bad else n) for n in range(20_000)]
    fill(source, rows, columns=("id", "small"))
    file = tmp_path / "refused"
    command = [sys.executable, "-c", KILLED]
    addresses = (e.url.render_as_string(False) for e in (source, target))
    command += [*addresses, file, moment]
    done = subprocess.run(command, cwd=ROOT, stderr=subprocess.PIPE, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    ((before,),) = native(target, "SELECT count(*) FROM thing")
    assert before == {"commit": 10_000 - 3, "savepoint": 0}[moment]
    assert copy_table(source, target, "thing", "id", file) == len(bad)
    arrived = [n for (n,) in native(target, "SELECT id FROM thing ORDER BY id")]
    assert arrived == [n for n, small in rows if small is not None]
    lines = map(json.loads, file.read_text("utf-8").splitlines())
    assert [line["row"]["id"] for line in lines] == sorted(bad)


def test_refused_rows_are_on_the_disk_first(places, tmp_path, monkeypatch):
    """The file is forced to the disk before each commit: a power cut loses no row."""
    source, target = from_to(places, "sqlite", "postgresql")
    for engine in (source, target):
        create(engine, columns=("id",))
    fill(source, [(n,) for n in range(6_000)], columns=("id",))
    order = []
    monkeypatch.setattr(os, "fsync", lambda _: order.append("fsync"))
    sa.event.listen(target, "commit", lambda _: order.append("commit"))
    copy_table(source, target, "thing", "id", tmp_path / "refused")
    assert order == ["fsync", "commit"] * 2


def test_torn_line(places, tmp_path):
    """A line that was half written when the power failed is written again."""
    source, target = from_to(places, "sqlite", "postgresql")
    columns = ("id", "note")
    for engine in (source, target):
        create(engine, columns=columns)
    fill(source, [(1, "a"), (2, "\0"), (3, "b")], columns=columns)
    file = tmp_path / "refused"
    assert copy_table(source, target, "thing", "id", file) == 1
    with file.open("ab") as torn:
        torn.write(b'{"row": {"id": 5, "no')
    fill(source, [(4, "d"), (5, "\0")], columns=columns)
    assert copy_table(source, target, "thing", "id", file) == 2
    lines = map(json.loads, file.read_text("utf-8").splitlines())
    assert [line["row"]["id"] for line in lines] == [2, 5]


@pytest.mark.parametrize("kind", NAMES)
def test_time_zone_of_the_server(places, tmp_path, kind):
    """A PostgreSQL that is set to New York and to another order of day and month
    changes no moment and no day, in or out."""
    for address in places["postgresql"]:
        with engine_for(address).begin() as conn:
            name = conn.engine.url.database
            conn.exec_driver_sql(
                f"ALTER DATABASE {name} SET TimeZone = 'America/New_York';"
                f"ALTER DATABASE {name} SET DateStyle = 'SQL, DMY'"
            )
    columns, rows = ("id", "at", "day"), [(1, "2026-07-01 12:30:00", "2026-02-01")]
    first, middle = from_to(places, "sqlite", "postgresql")
    last = from_to(places, "sqlite", kind)[1]
    for engine in {first, middle} if kind == "postgresql" else (first, middle, last):
        create(engine, columns=columns)
    fill(first, rows, columns=columns)
    copy_table(first, middle, "thing", "id", tmp_path / "refused")
    if kind != "postgresql":
        copy_table(middle, last, "thing", "id", tmp_path / "refused")
        assert len({*checksums(middle, last)}) == 1
    assert len({*checksums(first, middle)}) == 1


def test_time_zone_of_mysql(places, tmp_path):
    """A MySQL that is set to another zone changes no TIMESTAMP, in or out."""
    first, middle = from_to(places, "sqlite", "mysql")
    last = from_to(places, "sqlite", "sqlite")[1]
    columns = ("id", "at")
    for engine in (first, last):
        create(engine, columns=columns)
    with middle.begin() as conn:
        conn.exec_driver_sql(
            "CREATE TABLE thing (id BIGINT PRIMARY KEY, at TIMESTAMP(6))"
        )
    sa.event.listen(
        middle,
        "connect",
        lambda raw, _: raw.cursor().execute("SET time_zone = '+05:45'"),
    )
    fill(first, [(1, "2026-07-01 12:30:00")], columns=columns)
    for source, target in ((first, middle), (middle, last)):
        copy_table(source, target, "thing", "id", tmp_path / "refused")
    seconds = datetime(2026, 7, 1, 12, 30, tzinfo=UTC).timestamp()
    assert native(middle, "SELECT UNIX_TIMESTAMP(at) FROM thing") == [(seconds,)]
    assert native(last, "SELECT at FROM thing") == [("2026-07-01 12:30:00.000000",)]


def test_goes_on_with_new_rows(places, tmp_path):
    """Called again, it copies what has come since, and forgets no refused row."""
    source, target = from_to(places, "sqlite", "postgresql")
    for engine in (source, target):
        create(engine, columns=("id", "note"))
    file = tmp_path / "refused"
    for n, note in enumerate(["\0", "b", "\0", "d"], 1):
        fill(source, [(n, note)], columns=("id", "note"))
        refused = copy_table(source, target, "thing", "id", file)
    assert refused == 2
    assert native(target, "SELECT id FROM thing ORDER BY id") == [(2,), (4,)]
    assert len(file.read_text("utf-8").splitlines()) == 2


def test_shows_how_far_it_is(places, tmp_path, capsys):
    """The progress bar is on stderr: nothing is in the way of a pipe."""
    source, target = from_to(places, "sqlite", "sqlite")
    for engine in (source, target):
        create(engine, columns=("id",))
    fill(source, [(1,)], columns=("id",))
    copy_table(source, target, "thing", "id", tmp_path / "refused")
    said = capsys.readouterr()
    assert "100%" in said.err
    assert said.out == ""


def test_names_are_quoted(places, tmp_path):
    """A reserved word, a percent sign, a quote in a name: names only, never SQL."""
    name, column = 'order "%s" `x`', "group %"
    source, target = from_to(places, "sqlite", "postgresql")
    for engine in (source, target):
        quote = engine.dialect.identifier_preparer.quote
        with engine.begin() as conn:
            conn.execute(
                sa.DDL(
                    f"CREATE TABLE {quote(name)} (id bigint PRIMARY KEY,"
                    f" {quote(column)} text)".replace("%%", "%").replace("%", "%%")
                )
            )
    table = sa.table(name, sa.column("id"), sa.column(column))
    with source.begin() as conn:
        conn.execute(sa.insert(table), [{"id": 1, column: "a"}])
    assert copy_table(source, target, name, "id", tmp_path / "refused") == 0
    with target.connect() as conn:
        assert conn.execute(sa.select(table)).all() == [(1, "a")]


def peak(program, *arguments):
    """The most memory, in bytes, of a process that runs the program."""
    program += "\nfrom tests.recipes.support.memory import peak\nprint(peak())"
    command = [sys.executable, "-c", program, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    return int(done.stdout)


GROWTH = """
import sys
from pathlib import Path
from recipes.data_movement.copy_table_between_engines import last_key, write_rows
from recipes.data_movement.copy_table_between_engines_read import read_rows
from tests.recipes.support.every_type import engine_for
from tests.recipes.support.memory import peak

source, target = map(engine_for, sys.argv[1:3])
peaks = []
for table in ("few", "thing"):
    rows = read_rows(source, table, last_key(target, table, "id"))
    assert write_rows(target, table, "id", rows, Path(sys.argv[3])) == 0
    peaks.append(peak())
print(peaks[1] - peaks[0])
"""


@pytest.mark.parametrize(("one", "other"), [*permutations(NAMES, 2)])
def test_many_rows_in_little_memory(places, tmp_path, one, other):
    """In all six directions between different engines, 20,000 rows of every type
    arrive, equal by count and checksum. The process that copies them needs at most 8
    MiB beyond what it needs for 5,000."""
    source, target = from_to(places, one, other)
    for table, rows in (("few", 5_000), ("thing", 20_000)):
        for engine in (source, target):
            create(engine, table)
        fill(source, many(rows), table)
    addresses = places[one][0], places[other][1]
    command = [sys.executable, "-c", GROWTH, *addresses, tmp_path / "refused"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True)
    made = (dict(zip(TYPES, row, strict=True)) for row in many(20_000))
    assert checksum(made, FORMS) == checksum(read_rows(target, "thing"), FORMS)
    assert int(done.stdout) < 8 * 2**20


PIPE = """
import sys
from recipes.data_movement.copy_table_between_engines_postgresql import copy_table
import psycopg

with psycopg.connect(sys.argv[1]) as source, psycopg.connect(sys.argv[2]) as target:
    assert copy_table(source, target, sys.argv[3], "id") == int(sys.argv[4])
"""


def test_pipe_a_million_rows_of_all_types(ends, places):
    """PostgreSQL to PostgreSQL: a million rows of every common type, equal by count and
    checksum, with at most 16 MiB beyond what 20,000 rows need."""
    source, target = ends
    peaks = []
    for table, count in (("few", 20_000), ("thing", 1_000_000)):
        for place in places["postgresql"]:
            create(engine_for(place), table)
        source.execute(
            f"INSERT INTO {table} SELECT n, n, mod(n, 2) = 0, n / 7.0, n / 8.0,"
            " '1960-01-01'::timestamptz + n * interval '1 hour', '1900-01-01'::date"
            " + mod(n, 9999), 'row ' || n, '{}', int4send(n)"
            f" FROM generate_series(1, {count}) AS n"
        )
        source.commit()
        peaks.append(peak(PIPE, *places["postgresql"], table, count))
    assert pipe.checksum(source, "thing") == pipe.checksum(target, "thing")
    assert peaks[1] - peaks[0] < 16 * 2**20


# The pipe from PostgreSQL to PostgreSQL.


@pytest.fixture
def ends(places):
    """Connections to two databases of PostgreSQL."""
    source, target = places["postgresql"]
    with psycopg.connect(source) as one, psycopg.connect(target) as other:
        yield one, other


def both(ends, sql):
    for conn in ends:
        conn.execute(sql)
        conn.commit()


WIDE = """
    CREATE TYPE level AS ENUM ('low', 'high');
    CREATE TABLE "order" (id bigint PRIMARY KEY, "group" text, n numeric, f float8,
        at timestamptz, day date, body json, raw bytea, names text[], how level,
        span int4range, lasts interval,
        twice numeric GENERATED ALWAYS AS (id * 2.0) STORED)
"""


def test_pipe_copies_every_type(ends):
    """PostgreSQL to PostgreSQL: arrays, enums, ranges, infinity, NaN and JSON to the
    letter are the same at the other end, and so are the checksums."""
    both(ends, WIDE)
    source, target = ends
    source.execute("""
        INSERT INTO "order" VALUES
            (-9223372036854775808, E'a\\tb\\\\N\\n', 'NaN', 'NaN', 'infinity',
             '-infinity', '{"b":1,  "a":1.10, "a": 2}', '\\x00ff', '{"a,b",NULL}',
             'low', '[1,5)', '1 mon'),
            (2, '', 1e-200, '-Infinity', '4713-01-01 BC', '1899-12-31', 'null', '',
             '{}', 'high', 'empty', '-1 day'),
            (3, '😀', 1.10, 0.1, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
    """)
    source.commit()
    assert pipe.copy_table(source, target, "order", "id") == 3
    rows = [
        conn.execute('SELECT "order"::text FROM "order" ORDER BY id').fetchall()
        for conn in ends
    ]
    assert rows[0] == rows[1]
    assert pipe.checksum(source, "order") == pipe.checksum(target, "order")
    assert pipe.checksum(source, "order")[0] == 3


def test_pipe_checksum_sees_a_difference(ends):
    """The server's checksum changes with one digit of one row, and with an empty text
    that becomes NULL."""
    both(ends, "CREATE TABLE thing (id int PRIMARY KEY, note text)")
    both(ends, "INSERT INTO thing SELECT n, '' FROM generate_series(1, 100) AS n")
    source, target = ends
    assert pipe.checksum(source, "thing") == pipe.checksum(target, "thing")
    for change in ("note = NULL", "note = '1'", "id = 101"):
        target.execute(f"UPDATE thing SET {change} WHERE id = 50")
        assert pipe.checksum(source, "thing") != pipe.checksum(target, "thing")
        target.rollback()


def test_pipe_checksum_does_not_depend_on_settings(ends):
    """Two sessions that show moments, days and bytes in other ways have the same
    checksum."""
    both(ends, "CREATE TABLE thing (at timestamptz, day date, raw bytea)")
    both(ends, "INSERT INTO thing VALUES ('2026-07-01 12:30Z', '2026-02-01', '\\x5c')")
    source, target = ends
    for setting in (
        "TimeZone = 'Asia/Kathmandu'",
        "DateStyle = 'SQL, DMY'",
        "bytea_output = escape",
    ):
        target.execute(f"SET {setting}")
        assert pipe.checksum(source, "thing") == pipe.checksum(target, "thing")


def test_pipe_refuses_other_columns(ends):
    """Columns of another name or type, or no table at all: refused, for the bytes would
    be read as something else."""
    source, target = ends
    source.execute("CREATE TABLE thing (id bigint PRIMARY KEY, at timestamptz)")
    target.execute("CREATE TABLE thing (id bigint PRIMARY KEY, at bigint)")
    for table in ("thing", "nothing"):
        with pytest.raises(ValueError, match="not the same"):
            pipe.copy_table(source, target, table, "id")


def test_pipe_goes_on_after_a_lost_connection(ends, places, fault_proxy):
    """The line is cut before the second COMMIT: the first batch is there, whole, and
    the next call copies the rest."""
    both(ends, "CREATE TABLE thing (id bigint PRIMARY KEY)")
    source, target = ends
    source.execute("INSERT INTO thing SELECT generate_series(1, 2500)")
    source.commit()
    proxy = fault_proxy(places["postgresql"][1])
    told = []

    def report(rows):
        told.append(rows)
        proxy.cut_before(b"COMMIT")

    with psycopg.connect(proxy.url) as cut, pytest.raises(psycopg.OperationalError):
        pipe.copy_table(source, cut, "thing", "id", report, 1000)
    assert told == [1000]
    source.rollback()
    assert target.execute("SELECT count(*) FROM thing").fetchone() == (1000,)
    assert pipe.copy_table(source, target, "thing", "id", told.append, 1000) == 1500
    assert told == [1000, 1000, 500]
    assert pipe.checksum(source, "thing") == pipe.checksum(target, "thing")


def test_pipe_refused_row(ends):
    """A row that breaks a constraint ends it with the error: of its batch nothing is
    there, and when the row is mended, a call goes on."""
    source, target = ends
    source.execute("CREATE TABLE thing (id bigint PRIMARY KEY)")
    target.execute("CREATE TABLE thing (id bigint PRIMARY KEY CHECK (id <> 15))")
    both(ends, "SELECT")
    source.execute("INSERT INTO thing SELECT generate_series(1, 25)")
    with pytest.raises(psycopg.errors.CheckViolation):
        pipe.copy_table(source, target, "thing", "id", size=10)
    target.rollback()
    assert target.execute("SELECT max(id) FROM thing").fetchone() == (10,)
    source.execute("UPDATE thing SET id = 26 WHERE id = 15")
    assert pipe.copy_table(source, target, "thing", "id", size=10) == 15


# --8<-- [start:wrong]
def copy_as_often_copied(source, target):
    for row in source.execute("SELECT * FROM thing"):
        try:
            target.execute("INSERT INTO thing VALUES (%s, %s)", row)
        except Exception as error:
            print(f"skipped {row}: {error}")
    target.commit()


# --8<-- [end:wrong]


def test_often_copied_loses_the_rows_before_and_after(ends, capsys):
    """Often copied: one bad row of 100, and none arrives, without an error: the first
    refusal ends the transaction, and its commit is a rollback."""
    source, target = ends
    source.execute("CREATE TABLE thing (id int, note text)")
    source.execute(
        "INSERT INTO thing SELECT n, nullif(n, 50) FROM generate_series(1, 100) AS n"
    )
    target.execute("CREATE TABLE thing (id int, note text NOT NULL)")
    target.commit()
    copy_as_often_copied(source, target)
    assert target.execute("SELECT count(*) FROM thing").fetchone() == (0,)


# --8<-- [start:pandas]
def copy_with_pandas(source, target):
    pd.read_sql("SELECT * FROM thing", source).to_sql(
        "thing", target, if_exists="append", index=False
    )


# --8<-- [end:pandas]


def test_often_copied_changes_numbers(places):
    """Often copied, with pandas: a NULL makes floats of a column of integers, and
    9007199254740993 arrives as 9007199254740992."""
    source, target = from_to(places, "postgresql", "postgresql")
    for engine in (source, target):
        with engine.begin() as conn:
            conn.exec_driver_sql("CREATE TABLE thing (id bigint)")
    with source.begin() as conn:
        conn.exec_driver_sql("INSERT INTO thing VALUES (9007199254740993), (NULL)")
    copy_with_pandas(source, target)
    assert native(target, "SELECT id FROM thing")[0] == (9007199254740992,)
