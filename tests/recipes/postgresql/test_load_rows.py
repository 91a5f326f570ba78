import asyncio
import weakref
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import asyncpg
import psycopg
import pytest
import sqlalchemy as sa
from psycopg import errors
from psycopg.types.json import Jsonb

from recipes.postgresql import load_rows as with_psycopg
from recipes.postgresql import load_rows_asyncpg as with_asyncpg
from recipes.postgresql import load_rows_sqlalchemy as with_sqlalchemy


def by_psycopg(url, *args):
    with psycopg.connect(url) as conn:
        return with_psycopg.load_rows(conn, *args)


def by_binary(url, *args):
    with psycopg.connect(url) as conn:
        return with_psycopg.load_rows_binary(conn, *args)


def by_asyncpg(url, *args):
    async def load():
        conn = await asyncpg.connect(url)
        try:
            return await with_asyncpg.load_rows(conn, *args)
        finally:
            await conn.close()

    return asyncio.run(load())


def engine_for(url):
    address = sa.make_url(url).set(drivername="postgresql+psycopg")
    return sa.create_engine(address, poolclass=sa.NullPool)


def by_sqlalchemy(url, *args):
    with engine_for(url).begin() as conn:
        return with_sqlalchemy.load_rows(conn, *args)


@pytest.fixture(params=[by_psycopg, by_binary, by_asyncpg, by_sqlalchemy])
def load(request, postgresql):
    """Each of the loaders; it commits."""
    return lambda *args: request.param(postgresql, *args)


@pytest.fixture
def conn(postgresql):
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute(
            "CREATE TABLE reading"
            " (id bigint PRIMARY KEY, value numeric CHECK (value >= 0))"
        )
        yield conn


def count(conn):
    return conn.execute("SELECT count(*) FROM reading").fetchone()[0]


CHECKED = [
    ("bigint", -(2**63)),
    ("double precision", 0.1),
    ("numeric(18, 2)", Decimal("9007199254740993.10")),
    ("text", "tab\t newline\n quote' backslash\\n null \\N é 😀"),
    ("varchar(9)", ""),
    ("text", None),
    ("bytea", b"\x00\xff"),
    ("date", date(2026, 2, 28)),
    ("timestamp", datetime(2026, 3, 29, 0, 59, 59, 999999)),
    ("timestamptz", datetime(2026, 3, 29, 0, 59, 59, 999999, tzinfo=UTC)),
    ("uuid", UUID(int=5)),
]
OTHERS = [
    ("integer", 2**31 - 1),
    ("boolean", True),
    ("interval", timedelta(days=1, microseconds=1)),
    ("text[]", ["a,b", '"', None]),
]
REFUSED = (psycopg.Error, asyncpg.PostgresError)
REFUSED += (TypeError, ValueError, OverflowError, AttributeError)
ANY_TYPE = [by_psycopg, by_asyncpg, by_sqlalchemy]


@pytest.mark.parametrize(
    ("load", "kind", "value"),
    [(load, *case) for load in (*ANY_TYPE, by_binary) for case in CHECKED]
    + [(load, *case) for load in ANY_TYPE for case in OTHERS],
)
def test_values_arrive_unchanged(postgresql, conn, load, kind, value):
    """Numbers, text with tabs and backslashes, NULL, times, arrays arrive unchanged."""
    conn.execute(f"CREATE TABLE thing (value {kind})")
    assert load(postgresql, "thing", ["value"], [(value,)]) == 1
    assert conn.execute("SELECT value FROM thing").fetchone() == (value,)


def test_json_arrives_unchanged(conn):
    """psycopg: a dict goes into a jsonb column, as Jsonb, and as it is in binary."""
    conn.execute("CREATE TABLE thing (value jsonb)")
    body = {"a": [1, None, "é"]}
    with_psycopg.load_rows(conn, "thing", ["value"], [(Jsonb(body),)])
    with_psycopg.load_rows_binary(conn, "thing", ["value"], [(body,)])
    assert conn.execute("SELECT value FROM thing").fetchall() == [(body,), (body,)]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("integer", 2**31),
        ("date", "2026-02-30"),
        ("varchar(3)", "four"),
        ("text", "\0"),
    ],
)
def test_value_that_does_not_fit_is_refused(conn, load, kind, value):
    """A number too large, a day that is not, a text too long, a zero byte: refused."""
    conn.execute(f"CREATE TABLE thing (value {kind})")
    with pytest.raises(REFUSED):
        load("thing", ["value"], [(value,)])
    assert conn.execute("SELECT FROM thing").fetchone() is None


def test_enum(conn):
    """psycopg: an enum column takes text."""
    conn.execute("CREATE TYPE level AS ENUM ('low'); CREATE TABLE thing (value level)")
    assert with_psycopg.load_rows(conn, "thing", ["value"], [("low",)]) == 1


WRONG = [True, 5, 2**70, 1.5, Decimal(1), "5", b"5", date(2026, 1, 1), UUID(int=5)]
WRONG += [datetime(2026, 1, 1), datetime(2026, 1, 1, tzinfo=UTC), timedelta(1), [1], ()]


@pytest.mark.parametrize("kind", sorted(with_psycopg.CHECKED - {"json", "jsonb"}))
def test_binary_never_loads_nonsense(conn, kind):
    """Binary: a value of the wrong type is refused, or has the same meaning."""
    conn.execute(f"CREATE TABLE thing (value {kind})")
    for value in WRONG:
        conn.execute("TRUNCATE thing")
        try:
            with_psycopg.load_rows_binary(conn, "thing", ["value"], [(value,)])
        except REFUSED:
            continue
        (loaded,) = conn.execute("SELECT value FROM thing").fetchone()
        if isinstance(value, datetime) and kind == "date":
            value = value.date()
        assert loaded == value


@pytest.mark.parametrize("kind", ["integer", "boolean", "interval", "bigint[]"])
def test_binary_refuses_other_types(conn, kind):
    """Binary: a column of a type that nobody would check is refused."""
    conn.execute(f"CREATE TABLE thing (value {kind})")
    with pytest.raises(ValueError, match="use load_rows for"):
        with_psycopg.load_rows_binary(conn, "thing", ["value"], [])


def test_bad_row_loads_nothing(conn, load):
    """The last of 10,000 rows breaks a constraint: none is loaded."""
    rows = [(n, Decimal(1)) for n in range(9_999)] + [(9_999, Decimal(-1))]
    with pytest.raises((errors.CheckViolation, asyncpg.CheckViolationError)):
        load("reading", ["id", "value"], rows)
    assert count(conn) == 0


def test_failing_source_loads_nothing(conn, load):
    """The source of the rows fails half-way: none is loaded, its error arrives."""

    def rows():
        for n in range(10_000):
            yield n, Decimal(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        load("reading", ["id", "value"], rows())
    assert count(conn) == 0


def test_rows_are_not_collected(conn, load):
    """Rows go out one by one: of 50,000 never more than a few exist at a time."""

    class Row(list):  # a tuple takes no weak reference
        __hash__ = object.__hash__

    alive = weakref.WeakSet()
    most = 0

    def rows():
        nonlocal most
        for n in range(50_000):
            row = Row([n, Decimal(1)])
            alive.add(row)
            most = max(most, len(alive))
            yield row

    assert load("reading", ["id", "value"], rows()) == 50_000
    assert most <= 3


def test_columns_left_out_get_their_default(conn, load):
    """A column that is not named gets its default, here an identity."""
    conn.execute("CREATE TABLE thing (id int GENERATED ALWAYS AS IDENTITY, name text)")
    load("thing", ["name"], [("a",), ("b",)])
    assert conn.execute("SELECT * FROM thing").fetchall() == [(1, "a"), (2, "b")]


def test_names_are_quoted(conn, load):
    """A schema, a reserved word, a hostile table name: names only, never SQL."""
    conn.execute('CREATE SCHEMA "Lab"; CREATE TABLE "Lab"."order" ("group" text)')
    assert load("Lab.order", ["group"], [("a",)]) == 1
    with pytest.raises((errors.UndefinedTable, asyncpg.UndefinedTableError)):
        load("reading FROM PROGRAM 'echo 1' --", ["id"], [])


def test_part_of_the_callers_transaction(conn):
    """psycopg: inside a transaction of yours the load commits or rolls back with it."""
    with conn.transaction(force_rollback=True):
        with_psycopg.load_rows(conn, "reading", ["id"], [(1,)])
        assert count(conn) == 1
    assert count(conn) == 0


@pytest.mark.parametrize(
    "load", [with_psycopg.load_rows, with_psycopg.load_rows_binary]
)
def test_commits_by_itself(conn, postgresql, load):
    """psycopg: outside a transaction of yours the load commits by itself."""
    with psycopg.connect(postgresql) as other:
        load(other, "reading", ["id"], [(1,)])
        assert count(conn) == 1


@pytest.mark.parametrize(
    "load",
    [with_psycopg.load_rows, with_psycopg.load_rows_binary, with_sqlalchemy.load_rows],
)
def test_refused_load_leaves_the_transaction_usable(conn, postgresql, load):
    """psycopg, SQLAlchemy: a refused load undoes itself; your transaction goes on."""
    engine = engine_for(postgresql)
    with engine.begin() as alchemy:
        raw = alchemy.connection.driver_connection
        alchemy.execute(sa.text("INSERT INTO reading VALUES (1, 0)"))
        own = alchemy if load is with_sqlalchemy.load_rows else raw
        with pytest.raises(errors.UniqueViolation):
            load(own, "reading", ["id"], [(2,), (2,)])
        alchemy.execute(sa.text("INSERT INTO reading VALUES (3, 0)"))
    assert conn.execute("SELECT id FROM reading ORDER BY 1").fetchall() == [(1,), (3,)]


def test_part_of_the_sqlalchemy_transaction(conn, postgresql):
    """SQLAlchemy: the load commits or rolls back with the rest of the transaction."""
    with engine_for(postgresql).connect() as alchemy:
        alchemy.execute(sa.text("INSERT INTO reading VALUES (1, 0)"))
        with_sqlalchemy.load_rows(alchemy, "reading", ["id"], [(2,)])
        alchemy.rollback()
    assert count(conn) == 0


def test_sqlalchemy_needs_a_transaction(conn, postgresql):
    """SQLAlchemy: without a transaction it refuses, for nobody would commit."""
    with (
        engine_for(postgresql).connect() as alchemy,
        pytest.raises(sa.exc.InvalidRequestError, match="begin first"),
    ):
        with_sqlalchemy.load_rows(alchemy, "reading", ["id"], [(1,)])


# --8<-- [start:wrong]
def load_rows_as_often_copied(conn, table, rows):
    text = "\n".join("\t".join(str(value) for value in row) for row in rows)
    with conn.cursor() as cur, cur.copy(f"COPY {table} FROM STDIN") as copy:
        copy.write(text)
    conn.commit()


def load_binary_as_often_copied(conn, table, types, rows):
    binary = f"COPY {table} FROM STDIN (FORMAT binary)"
    with conn.cursor() as cur, cur.copy(binary) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)
    conn.commit()


# --8<-- [end:wrong]


@pytest.fixture
def note(postgresql):
    with psycopg.connect(postgresql) as conn:
        conn.execute("CREATE TABLE note (id int, body text)")
        conn.commit()
        yield conn


@pytest.mark.parametrize(
    ("value", "arrives"),
    [(None, "None"), (r"C:\new", "C:\new"), (r"\N", None)],
    ids=["NULL", "backslash", "backslash N"],
)
def test_often_copied_changes_values(note, value, arrives):
    """Often copied: NULL becomes the word None, and `C:\\new` becomes two lines."""
    load_rows_as_often_copied(note, "note", [(1, value)])
    assert note.execute("SELECT body FROM note").fetchone() == (arrives,)


def test_often_copied_chokes_on_a_tab(note):
    """Often copied: a tab inside a value is one column too many."""
    with pytest.raises(errors.BadCopyFileFormat, match="extra data"):
        load_rows_as_often_copied(note, "note", [(1, "a\tb")])


def test_often_copied_runs_what_the_name_says(note):
    """Often copied: a hostile table name runs a program on the server."""
    with pytest.raises(psycopg.ProgrammingError, match="copy"):
        load_rows_as_often_copied(note, "note (body) FROM PROGRAM 'echo ran' --", [])
    assert note.execute("SELECT body FROM note").fetchone() == ("ran",)


@pytest.mark.parametrize(
    ("kind", "value", "arrives"),
    [
        ("int4", 2**31, -(2**31)),
        ("int2", 40_000, -25_536),
        ("bool", "no", True),
    ],
)
def test_often_copied_wraps_around(note, kind, value, arrives):
    """Often copied, binary: 2147483648 arrives as -2147483648, and "no" as true."""
    note.execute(f"CREATE TABLE thing (value {kind})")
    load_binary_as_often_copied(note, "thing", [kind], [(value,)])
    assert note.execute("SELECT value FROM thing").fetchone() == (arrives,)


def test_often_copied_misreads_a_wrong_type(note):
    """Often copied, binary: named int8, the float column gets 5e-324 in place of 1."""
    note.execute("CREATE TABLE thing (value float8)")
    load_binary_as_often_copied(note, "thing", ["int8"], [(1,)])
    assert note.execute("SELECT value FROM thing").fetchone() == (5e-324,)
