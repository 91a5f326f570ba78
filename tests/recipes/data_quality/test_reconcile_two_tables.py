import tracemalloc
from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa

from recipes.data_quality.reconcile_two_tables import open_engine, reconcile

COLUMNS = {
    "id": "integer",
    "name": "text",
    "amount": "decimal",
    "paid": "boolean",
    "day": "date",
    "at": "moment",
}
SOURCE = """
CREATE TABLE item (
    id bigint PRIMARY KEY, name text, amount numeric(20, 2), paid boolean,
    day date, at timestamptz
)
"""
COPY = """
CREATE TABLE item (
    id bigint PRIMARY KEY, name varchar(100) CHARACTER SET utf8mb4,
    amount decimal(30, 8), paid tinyint(1), day date, at datetime(6)
)
"""
AT = datetime(2026, 3, 29, 0, 30, 0, 123456, tzinfo=UTC)
ROW = {
    "id": 1,
    "name": "Zoë 😀",
    "amount": Decimal("12.30"),
    "paid": True,
    "day": date(2026, 2, 28),
    "at": AT,
}
item = sa.table("item", *map(sa.column, COLUMNS))


@pytest.fixture
def sides(postgresql, mysql):
    """A connection to the source, and one to its copy: the same table, without rows."""
    urls = (
        postgresql.replace(":", "+psycopg:", 1),
        mysql.replace(":", "+pymysql:", 1),
    )
    engines = [open_engine(url) for url in urls]
    with engines[0].connect() as source, engines[1].connect() as copy:
        source.exec_driver_sql(SOURCE)
        copy.exec_driver_sql(COPY)
        source.commit()
        yield source, copy
    for engine in engines:
        engine.dispose()


def fill(conn, rows):
    if rows:
        conn.execute(item.insert(), rows)
        conn.commit()


def found(sides, **options):
    return list(reconcile(*sides, "item", "id", COLUMNS, **options))


def row(number, **values):
    return ROW | {"id": number} | values


@pytest.mark.parametrize("size", [1, 2, 7, 100])
def test_names_every_fault(sides, size):
    """Missing, extra and different rows are named, in the order of the key, whatever
    the size of a part."""
    source, copy = sides
    fill(source, [row(n) for n in [1, 2, 3, 5, 8, 13, 21, 34, 10**15]])
    fill(copy, [row(n) for n in [-4, 1, 2, 4, 5, 13, 21, 10**15]])
    copy.execute(sa.text("UPDATE item SET name = 'x' WHERE id IN (5, 21)"))
    assert found(sides, size=size) == [
        (-4, "extra"),
        (3, "missing"),
        (4, "extra"),
        (5, "different"),
        (8, "missing"),
        (21, "different"),
        (34, "missing"),
    ]


@pytest.mark.parametrize("size", [2, 100])
def test_equal(sides, size):
    """Two tables that are equal, or both empty, have no faults."""
    assert found(sides, size=size) == []
    for side in sides:
        fill(side, [row(n) for n in range(1, 6)])
    assert found(sides, size=size) == []


@pytest.mark.parametrize("side", [0, 1])
def test_one_side_is_empty(sides, side):
    """If one side is empty, each row of the other is a fault."""
    fill(sides[side], [row(n) for n in range(1, 6)])
    fault = ["missing", "extra"][side]
    assert found(sides, size=2) == [(n, fault) for n in range(1, 6)]


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"amount": Decimal(0)}, id="zero"),
        pytest.param({"amount": Decimal(100)}, id="hundred"),
        pytest.param({"amount": Decimal("-0.50")}, id="negative"),
        pytest.param({"amount": Decimal("123456789012345678.99")}, id="large"),
        pytest.param({"paid": False}, id="false"),
        pytest.param({"name": ""}, id="empty"),
        pytest.param({"name": "a\\b'c%d:e\n\t "}, id="special"),
        pytest.param({"at": AT.replace(microsecond=0)}, id="whole-second"),
        pytest.param({"day": date(1, 1, 1)}, id="year-1"),
        pytest.param({name: None for name in COLUMNS if name != "id"}, id="null"),
    ],
)
def test_types_that_differ(sides, values):
    """numeric(20,2) and DECIMAL(30,8), boolean and TINYINT, timestamptz and
    DATETIME(6), text and VARCHAR: the same value on both engines is no fault."""
    for side in sides:
        fill(side, [row(1, **values)])
    assert found(sides) == []


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"amount": Decimal("12.30000001")}, id="fraction"),
        pytest.param({"at": AT.replace(microsecond=123455)}, id="microsecond"),
        pytest.param({"name": "zoë 😀"}, id="capital"),
        pytest.param({"name": "Zoe 😀"}, id="accent"),
        pytest.param({"name": "Zoë 😀 "}, id="space"),
        pytest.param({"paid": None}, id="null"),
        pytest.param({"paid": False}, id="false"),
        pytest.param({"day": date(2026, 3, 1)}, id="day"),
    ],
)
def test_small_differences(sides, values):
    """Found, though MySQL would call some of them equal: a fraction, a microsecond, a
    capital, an accent, a space at the end, a NULL, a day."""
    source, copy = sides
    fill(source, [ROW])
    fill(copy, [ROW | values])
    assert found(sides) == [(1, "different")]


def test_null_is_not_empty(sides):
    """NULL and the empty text are different, and so are NULL and the text "NULL"."""
    source, copy = sides
    fill(source, [row(1, name=None), row(2, name=None)])
    fill(copy, [row(1, name=""), row(2, name="NULL")])
    assert found(sides) == [(1, "different"), (2, "different")]


def test_infinity(sides):
    """A moment of infinity, which MySQL cannot hold, is not taken for NULL."""
    source, copy = sides
    fill(source, [ROW])
    source.execute(sa.text("UPDATE item SET at = 'infinity'"))
    fill(copy, [row(1, at=None)])
    assert found(sides) == [(1, "different")]


@pytest.mark.parametrize("shift", [0, 1])
def test_zones(sides, shift):
    """TIMESTAMP of MySQL and timestamptz are compared as moments, in UTC."""
    for side, kind in zip(sides, ("timestamptz", "timestamp(6)"), strict=True):
        side.exec_driver_sql(f"CREATE TABLE t (id int PRIMARY KEY, at {kind})")
    sides[0].exec_driver_sql("INSERT INTO t VALUES (1, '2026-01-01 12:00:00+02')")
    sides[1].exec_driver_sql("SET time_zone = '+05:00'")
    sides[1].exec_driver_sql(f"INSERT INTO t VALUES (1, '2026-01-01 15:00:0{shift}')")
    sides[1].commit()
    sides[1].invalidate()  # the next statement is on a new connection
    sides[1].rollback()
    kinds = {"id": "integer", "at": "moment"}
    assert list(reconcile(*sides, "t", "id", kinds)) == [(1, "different")] * shift


def test_zone_of_the_server(sides):
    """A server that is set to another zone changes nothing: the session's is UTC."""
    for side in sides:
        fill(side, [ROW])
    name = sides[0].engine.url.database
    sides[0].exec_driver_sql(f"ALTER DATABASE {name} SET TimeZone = 'Asia/Kathmandu'")
    sides[0].commit()
    for side in sides:
        side.invalidate()  # the next statement is on a new connection
        side.rollback()
    assert found(sides) == []
    assert sides[1].exec_driver_sql("SELECT @@time_zone").scalar() == "+00:00"


@pytest.mark.parametrize("emoji", ["😀", "😁"])
def test_character_set_of_the_connection(sides, emoji):
    """An address with another character set makes no question marks of texts, which
    would all be equal."""
    source, copy = sides
    fill(source, [ROW])
    fill(copy, [row(1, name=f"Zoë {emoji}")])
    url = copy.engine.url.update_query_dict({"charset": "latin1"})
    engine = open_engine(url.render_as_string(hide_password=False))
    with engine.connect() as other:
        faults = list(reconcile(source, other, "item", "id", COLUMNS))
    engine.dispose()
    assert faults == ([] if emoji in ROW["name"] else [(1, "different")])


def test_values_do_not_run_together(sides):
    """The end of one column is not taken for the start of the next."""
    columns = {"id": "integer", "a": "text", "b": "text"}
    for side, (a, b) in zip(sides, (("a", "bc"), ("ab", "c")), strict=True):
        side.exec_driver_sql(
            "CREATE TABLE pair (id int PRIMARY KEY, a varchar(9), b varchar(9))"
        )
        side.execute(sa.text("INSERT INTO pair VALUES (1, :a, :b)"), {"a": a, "b": b})
    assert list(reconcile(*sides, "pair", "id", columns)) == [(1, "different")]


def test_swapped_rows(sides):
    """Two rows that swapped their values are both found: the sums hold the key."""
    source, copy = sides
    fill(source, [row(1, name="a"), row(2, name="b")])
    fill(copy, [row(1, name="b"), row(2, name="a")])
    assert found(sides) == [(1, "different"), (2, "different")]


def test_one_state(sides, postgresql):
    """It sees each database as it was at the start, whatever others write meanwhile."""
    source, copy = sides
    for side in sides:
        fill(side, [row(n) for n in (1, 2, 3, 4)])
    fill(copy, [row(5)])
    faults = reconcile(*sides, "item", "id", COLUMNS, size=2)
    source.execute(sa.text("SELECT count(*) FROM item"))
    other = open_engine(postgresql.replace(":", "+psycopg:", 1))
    with other.begin() as conn:
        conn.execute(sa.text("DELETE FROM item"))
    other.dispose()
    assert list(faults) == [(5, "extra")]


def test_rows_stay_where_they_are_equal(sides):
    """Rows of a part leave the database only if its sums differ."""
    for side in sides:
        fill(side, [row(n) for n in range(1, 101)])
    sides[1].execute(sa.text("DELETE FROM item WHERE id = 55"))
    fetched = []
    for side in sides:
        sa.event.listen(
            side,
            "after_cursor_execute",
            lambda conn, cursor, *_: fetched.append(cursor.rowcount),
        )
    assert found(sides, size=10) == [(55, "missing")]
    assert sorted(fetched)[-2:] == [9, 10]
    assert sum(count > 1 for count in fetched) == 2


def test_memory(sides):
    """Ten times as many faults take no more memory."""

    def peak(number):
        tracemalloc.start()
        count = sum(1 for _ in reconcile(*sides, "item", "id", COLUMNS, size=50))
        assert count == number
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    fill(sides[0], [row(n) for n in range(1, 301)])
    peak(300)  # the first one fills the caches of SQLAlchemy
    first = peak(300)
    fill(sides[0], [row(n) for n in range(301, 3001)])
    assert peak(3000) < first * 2


def test_needs_a_whole_number(sides):
    """A text as key is refused: the engines order texts in different ways."""
    with pytest.raises(ValueError, match="name"):
        list(reconcile(*sides, "item", "name", COLUMNS))


def test_hostile_names(sides):
    """A table name that holds SQL is the name of no table."""
    with pytest.raises(sa.exc.ProgrammingError, match="not exist"):
        list(reconcile(*sides, "item; DROP TABLE item", "id", COLUMNS))


# --8<-- [start:wrong]
def reconcile_as_often_copied(source, copy):
    count = "SELECT COUNT(*) FROM item"
    if source.exec_driver_sql(count).scalar() != copy.exec_driver_sql(count).scalar():
        return "row counts differ"
    total = "SELECT SUM(amount), MAX(id) FROM item"
    ours, theirs = (tuple(c.exec_driver_sql(total).one()) for c in (source, copy))
    return "OK" if ours == theirs else "totals differ"


def compare_as_often_copied(source, copy):
    rows = "SELECT * FROM item ORDER BY id"
    ours, theirs = (set(map(tuple, c.exec_driver_sql(rows))) for c in (source, copy))
    return ours ^ theirs


# --8<-- [end:wrong]


def test_often_copied_counts(sides):
    """Often copied: one row missing, another doubled, and two amounts swapped: OK."""
    source, copy = sides
    fill(source, [row(n, amount=n) for n in (1, 2, 3, 4)])
    fill(copy, [row(n, amount=n) for n in (-1, 2, 3, 4)])
    copy.execute(sa.text("UPDATE item SET amount = 1 WHERE id = -1"))
    copy.execute(sa.text("UPDATE item SET amount = 7 - amount WHERE id IN (3, 4)"))
    assert reconcile_as_often_copied(source, copy) == "OK"
    assert len(found(sides)) == 4


def test_often_copied_types(sides):
    """Often copied: equal rows are all different, because an aware moment is no naive
    one."""
    for side in sides:
        fill(side, [ROW])
    assert len(compare_as_often_copied(*sides)) == 2
