"""bulk_insert: good rows are stored, bad ones named, and nothing else is lost."""

from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from types import SimpleNamespace

import ibm_db_dbi
import pytest

from recipes.db2.bulk_insert import SCHEMA, insert_rows, is_about_values

INSERT = "INSERT INTO item VALUES (?, ?, ?)"


def items(count: int) -> list[tuple[object, ...]]:
    return [(n, f"item {n}", Decimal(n) / 100) for n in range(1, count + 1)]


# On a server.


@pytest.fixture
def shop(conn):
    """A connection to an empty table."""
    conn.cursor().execute(SCHEMA)
    conn.commit()
    return conn


def stored(conn) -> list[int]:
    with closing(conn.cursor()) as cursor:
        cursor.execute("SELECT id FROM item ORDER BY id")
        return [row[0] for row in cursor.fetchall()]


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_all_rows(shop, batch):
    """Every row is inserted once, whatever the size of the batches."""
    loaded = insert_rows(shop, INSERT, iter(items(20)), batch)
    assert (loaded.inserted, loaded.refused) == (20, [])
    assert stored(shop) == list(range(1, 21))


def test_bad_rows_are_named(shop):
    """A duplicate, a broken check, a name that is too long, a missing value: each is
    reported with its position and the server's error; all others are inserted."""
    rows = items(40)
    rows[3] = (1, "again", Decimal(1))
    rows[4] = (5, "free", Decimal(0))
    rows[20] = (21, "much too long", Decimal(1))
    rows[39] = (40, None, Decimal(1))
    loaded = insert_rows(shop, INSERT, rows, batch=16)
    assert [one.position for one in loaded.refused] == [3, 4, 20, 39]
    codes = ["SQL0803N", "SQL0545N", "SQLSTATE=22001", "SQL0407N"]
    for one, code in zip(loaded.refused, codes, strict=True):
        assert code in one.error
        assert one.row == rows[one.position]
    assert loaded.inserted == len(stored(shop)) == 36


def test_mixed_types(shop):
    """Rows whose values have different Python types, which the driver refuses to send
    as one batch, are inserted all the same."""
    rows = [(1, "a", Decimal(1)), (2, "b", 2), (3, "c", Decimal(3)), (4, "d", 4.5)]
    loaded = insert_rows(shop, INSERT, rows)
    assert (loaded.inserted, loaded.refused) == (4, [])


def test_transaction_is_the_callers(shop):
    """What came before in the transaction stays; a rollback undoes all of it."""
    shop.cursor().execute("INSERT INTO item VALUES (7, 'seven', 7)")
    loaded = insert_rows(shop, INSERT, items(10))
    assert [one.position for one in loaded.refused] == [6]
    assert len(stored(shop)) == 10
    shop.rollback()
    assert stored(shop) == []


def test_wrong_statement(shop):
    """A table that does not exist is an error, not a refused row."""
    with pytest.raises(ibm_db_dbi.Error, match="SQL0204N"):
        insert_rows(shop, "INSERT INTO nothing VALUES (?)", [(1,)])


# Without one: what happens when the driver says that a batch failed.


class Table:
    """A connection and its cursor: keeps rows, refuses some, undoes to a savepoint."""

    def __init__(self, refuses: Callable[[tuple], str | None]) -> None:
        self.refuses, self.rows, self.batches = refuses, [], []

    def cursor(self):
        return self

    def close(self):
        pass

    def execute(self, statement):
        if statement.startswith("ROLLBACK TO SAVEPOINT"):
            self.rows = list(self.saved)
        else:
            assert statement.startswith("SAVEPOINT")
            self.saved = list(self.rows)

    def executemany(self, statement, rows):
        assert isinstance(rows, list)  # the driver takes no other sequence
        self.batches.append(len(rows))
        said = [self.refuses(row) for row in rows]
        self.rows += [row for row, no in zip(rows, said, strict=True) if not no]
        if errors := [no for no in said if no]:
            numbered = enumerate(errors, 1)  # by error, not by row
            raise ibm_db_dbi.Error("".join(f"Error {n}: {e}\n" for n, e in numbered))


DUPLICATE = "[IBM][CLI Driver][DB2/LINUXX8664] SQL0803N ... SQLSTATE=23505 SQLCODE=-803"


@pytest.mark.parametrize("bad", [set(), {0}, {9}, {4, 5}, {0, 3, 9}, set(range(10))])
@pytest.mark.parametrize("batch", [1, 3, 10, 100])
def test_halves_find_the_bad_rows(bad, batch):
    """A batch that failed is undone and tried in halves: each bad row is found, each
    good one is stored once and in order."""
    table = Table(lambda row: DUPLICATE if row[0] in bad else None)
    loaded = insert_rows(table, INSERT, [(n,) for n in range(10)], batch)
    assert {one.position for one in loaded.refused} == bad
    assert table.rows == [(n,) for n in range(10) if n not in bad]
    assert loaded.inserted == len(table.rows)


def test_few_statements_for_one_bad_row():
    """One bad row of a thousand costs about twenty smaller batches, not a thousand."""
    table = Table(lambda row: DUPLICATE if row[0] == 617 else None)
    insert_rows(table, INSERT, [(n,) for n in range(1000)])
    assert len(table.batches) <= 21


@pytest.mark.parametrize(
    "error",
    [
        "SQL0911N  The current transaction has been rolled back SQLSTATE=40001",
        "SQL0913N  Unsuccessful execution SQLSTATE=57033",
        "SQL30081N  A communication error SQLSTATE=08001",
        "SQL0204N  is an undefined name. SQLSTATE=42704",
    ],
)
def test_other_errors_reach_the_caller(error):
    """A deadlock, a lost line, a wrong statement: raised at once, also beside a
    duplicate, and nothing is tried again."""
    table = Table({(3,): DUPLICATE, (5,): error}.get)
    with pytest.raises(ibm_db_dbi.Error, match=error[:9]):
        insert_rows(table, INSERT, [(n,) for n in range(10)])
    assert table.batches == [10]


@pytest.mark.parametrize(
    ("error", "about_values"),
    [
        ("Error 1: Value parameter tuple 3 has types that are not homogeneous", True),
        ("Error 1: CLI0111E  Numeric value out of range. SQLSTATE=22003", True),
        (f"Error 1: {DUPLICATE}\nError 2: {DUPLICATE}", True),
        (f"Error 1: {DUPLICATE}\nError 2: SQLSTATE=40001 SQLCODE=-911", False),
    ],
)
def test_is_about_values(error, about_values):
    """Rows that the driver or the server refuses are about values; with one other error
    among them it is not."""
    assert is_about_values(ibm_db_dbi.Error(error)) is about_values


# The driver's own executemany(), with the part in C replaced: it reports a failure.


@pytest.fixture
def driver(monkeypatch):
    """A real cursor; what its executemany() sends and sets is in the second value."""
    seen = SimpleNamespace(autocommit=1, sent=None)

    def autocommit(handle, *value):
        if value:
            seen.autocommit = value[0]
        return seen.autocommit

    def execute_many(statement, rows):
        seen.sent = rows
        raise Exception(f"Error 1: {DUPLICATE}\n")

    for name, function in {
        "prepare": lambda handle, statement: object(),
        "num_rows": lambda statement: 1,
        "autocommit": autocommit,
        "execute_many": execute_many,
    }.items():
        monkeypatch.setattr(ibm_db_dbi.ibm_db, name, function)
    cursor = ibm_db_dbi.Cursor(object(), SimpleNamespace(FIX_RETURN_TYPE=1))
    return cursor, seen


# --8<-- [start:wrong]
def insert_as_copied(conn, rows):
    cursor = conn.cursor()
    try:
        cursor.executemany("INSERT INTO item VALUES (?, ?, ?)", rows)
    except ibm_db_dbi.IntegrityError:
        conn.rollback()  # a duplicate: the whole batch
    except Exception as error:
        print(error)
    conn.commit()


# --8<-- [end:wrong]


def test_often_copied_stores_a_part(shop):
    """Often copied: a batch with one duplicate ends without an error and stores a part
    of itself."""
    rows = items(5)
    rows[2] = (1, "again", Decimal(1))
    insert_as_copied(shop, rows)
    assert 0 < len(stored(shop)) < 5


def test_often_copied_expects_an_integrity_error(driver):
    """Often copied: a duplicate in executemany() is no IntegrityError, but the base
    class Error. "Error 1" is the first error, not the first row."""
    cursor, _ = driver
    with pytest.raises(ibm_db_dbi.Error, match=r"Error 1: .*SQL0803N") as caught:
        cursor.executemany(INSERT, items(5))
    assert type(caught.value) is ibm_db_dbi.Error


def test_often_copied_with_autocommit(driver):
    """Often copied, with autocommit: a failed executemany() leaves it switched off, and
    what follows is never committed."""
    cursor, seen = driver
    with pytest.raises(ibm_db_dbi.Error):
        cursor.executemany(INSERT, items(5))
    assert seen.autocommit == 0


def test_often_copied_memoryview(driver):
    """Often copied: executemany() sends the name of a memoryview, not its bytes."""
    cursor, seen = driver
    with pytest.raises(ibm_db_dbi.Error):
        cursor.executemany(INSERT, [(1, memoryview(b"picture"))])
    assert seen.sent[0][1].startswith("<memory at 0x")
