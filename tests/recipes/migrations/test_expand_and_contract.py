import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType

import psycopg
import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from psycopg.errors import FeatureNotSupported, LockNotAvailable, UndefinedColumn
from sqlalchemy import create_engine

from recipes.migrations import expand_and_contract as rename
from recipes.migrations import expand_and_contract_split as split
from recipes.migrations.expand_and_contract import (
    CONTRACT,
    EXPAND,
    REQUIRE,
    backfill,
    change,
)

ROWS = 50


@dataclass
class Case:
    """One of the changes: its recipe, and the columns."""

    recipe: ModuleType
    old: str
    new: str  # that a new version writes
    insert: str  # how it does
    whole: str  # what the old column was, made of the new ones


CASES = {
    "rename": Case(rename, "mail", "email", "(email) VALUES (%s)", "email"),
    "split": Case(
        split,
        "name",
        "family",
        "(given, family) VALUES ('n', %s)",
        "given || coalesce(' ' || family, '')",
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    return CASES[request.param]


@contextmanager
def table(postgresql, column):
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute(f"CREATE TABLE customer (id serial PRIMARY KEY, {column} text)")
        conn.execute(f"ALTER TABLE customer ALTER {column} SET NOT NULL")
        add = f"INSERT INTO customer ({column}) SELECT 'm' FROM generate_series(1, %s)"
        conn.execute(add, (ROWS,))
        yield conn


@pytest.fixture
def conn(postgresql):
    """A connection to a database with a table for the rename."""
    with table(postgresql, "mail") as conn:
        yield conn


@pytest.fixture
def people(postgresql):
    """A connection to a database with a table for the split."""
    with table(postgresql, "name") as conn:
        yield conn


@pytest.fixture
def shop(case, postgresql):
    """A connection to a database with the table of that case."""
    with table(postgresql, case.old) as conn:
        yield conn


@pytest.fixture
def other(postgresql):
    """A second session, which begins a transaction with its first statement."""
    with psycopg.connect(postgresql) as other:
        yield other


def waits_for_a_lock(conn):
    end = time.monotonic() + 30
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid"
    waiting += " FROM pg_stat_activity WHERE datname = current_database())"
    while not conn.execute(waiting).fetchone()[0]:
        assert time.monotonic() < end


def rows(conn, column):
    return dict(conn.execute(f"SELECT id, {column} FROM customer"))


class Version:
    """A running program that knows one name of the column, and keeps what it wrote."""

    def __init__(self, url, name, column, insert):
        self.url, self.name, self.column, self.insert = url, name, column, insert
        self.written = []  # (id, tag)
        self.stopped = threading.Event()

    def run(self):
        with psycopg.connect(self.url, autocommit=True) as conn:
            number = 0
            while not self.stopped.is_set():
                number += 1
                tag = f" {self.name}{number};"
                key = number % ROWS + 1
                longer = f"{self.column} = concat({self.column}, %s::text)"
                append = f"UPDATE customer SET {longer} WHERE id = %s"
                done = conn.execute(append, (tag, key))
                assert done.rowcount == 1
                self.written.append((key, tag))
                read = f"SELECT {self.column} FROM customer WHERE id = %s"
                assert tag in conn.execute(read, (key,)).fetchone()[0]
                add = f"INSERT INTO customer {self.insert} RETURNING id"
                tag = f" {self.name}{number}+;"
                self.written.append((conn.execute(add, (tag,)).fetchone()[0], tag))

    def goes_on(self, running):
        """Wait until it has written some more, or has failed."""
        seen, end = len(self.written), time.monotonic() + 60
        while len(self.written) < seen + 20 and not running.done():
            assert time.monotonic() < end
            time.sleep(0.001)


def test_while_both_versions_run(shop, case, postgresql):
    """Old and new programs write the same rows through every step, two of each. No
    request fails, and every write is there, in the old shape and in the new one,
    exactly once."""
    insert = f"({case.old}) VALUES (%s)"
    old = [Version(postgresql, f"old{n}.", case.old, insert) for n in (1, 2)]
    new = [Version(postgresql, f"new{n}.", case.new, case.insert) for n in (1, 2)]
    with ThreadPoolExecutor(4) as pool:
        running = {}

        def all_go_on():
            for version, future in running.items():
                version.goes_on(future)

        try:
            running |= {it: pool.submit(it.run) for it in old}
            all_go_on()
            case.recipe.change(shop, case.recipe.EXPAND, 1000, 0.001)
            all_go_on()
            case.recipe.backfill(shop, size=7)
            for step in case.recipe.REQUIRE:
                case.recipe.change(shop, step, 1000, 0.001)
            running |= {it: pool.submit(it.run) for it in new}
            all_go_on()
            for it in old:
                it.stopped.set()
                running.pop(it).result(60)
            assert case.recipe.different(shop) == 0
            before = rows(shop, case.old)
            case.recipe.contract(shop)
            all_go_on()
        finally:
            for it in old + new:
                it.stopped.set()
        for future in running.values():
            future.result(60)
    after = rows(shop, case.whole)
    for version in old:
        assert all(before[key].count(tag) == 1 for key, tag in version.written)
    for version in old + new:
        assert all(after[key].count(tag) == 1 for key, tag in version.written)
    assert len(after) == ROWS + sum(len(it.written) // 2 for it in old + new)


@pytest.mark.parametrize(
    ("name", "given", "family"),
    [
        ("Ann Lee", "Ann", "Lee"),
        ("Ann of  Cleves", "Ann", "of  Cleves"),
        ("Björk", "Björk", None),
        ("Ann ", "Ann", ""),
        (" Ann", "", "Ann"),
        ("", "", None),
        ("Ann\n\tLee\nX", "Ann\n\tLee\nX", None),
        ("Ann\nof Cle\nves", "Ann\nof", "Cle\nves"),
    ],
)
def test_split_keeps_the_text(people, name, given, family):
    """Split at the first space, by the backfill or as an old program writes it, and
    whatever spaces there are: put together, it is the same text."""
    people.execute("UPDATE customer SET name = %s WHERE id = 1", (name,))
    split.change(people, split.EXPAND)
    assert split.backfill(people) == ROWS
    people.execute("UPDATE customer SET name = %s WHERE id = 2", (name,))
    people.execute("INSERT INTO customer (id, name) VALUES (101, %s)", (name,))
    query = "SELECT name, given, family FROM customer WHERE id IN (1, 2, 101)"
    assert people.execute(query).fetchall() == [(name, given, family)] * 3
    assert split.different(people) == 0


def test_split_new_program_decides(people):
    """What a new program calls the given name stays that, though it has a space, until
    an old one writes another name. A write to another column splits nothing again."""
    people.execute("ALTER TABLE customer ADD note text")
    split.change(people, split.EXPAND)
    split.backfill(people)
    query = "SELECT name, given, family FROM customer WHERE id = 1"
    for write, row in (
        ("given = 'Mary Ann', family = 'Lee'", ("Mary Ann Lee", "Mary Ann", "Lee")),
        ("note = 'x'", ("Mary Ann Lee", "Mary Ann", "Lee")),
        ("name = name", ("Mary Ann Lee", "Mary Ann", "Lee")),
        ("family = NULL", ("Mary Ann", "Mary Ann", None)),
        ("name = 'Mary Ann Poe'", ("Mary Ann Poe", "Mary", "Ann Poe")),
    ):
        people.execute(f"UPDATE customer SET {write} WHERE id = 1")
        assert people.execute(query).fetchone() == row
    assert split.different(people) == 0


def test_split_without_a_name(people):
    """A NULL is not split, and does not keep the backfill busy."""
    people.execute("ALTER TABLE customer ALTER name DROP NOT NULL")
    people.execute("UPDATE customer SET name = NULL WHERE id = 1")
    split.change(people, split.EXPAND)
    assert split.backfill(people) == ROWS - 1
    assert rows(people, "given")[1] is None


def test_both_shapes(conn):
    """Each version's insert and update is in both columns, and so is a NULL; a write
    to another column changes neither."""
    change(conn, "ALTER TABLE customer ALTER mail DROP NOT NULL, ADD note text")
    change(conn, EXPAND)
    backfill(conn)
    for write in (
        "UPDATE customer SET mail = 'old' WHERE id = 1",
        "UPDATE customer SET email = 'new' WHERE id = 2",
        "UPDATE customer SET mail = NULL WHERE id = 3",
        "UPDATE customer SET email = NULL WHERE id = 4",
        "UPDATE customer SET note = 'x' WHERE id = 5",
        "INSERT INTO customer (id, mail) VALUES (101, 'old')",
        "INSERT INTO customer (id, email) VALUES (102, 'new')",
    ):
        conn.execute(write)
    assert rows(conn, "mail") == rows(conn, "email")
    keys = (1, 2, 3, 4, 5, 101, 102)
    values = [rows(conn, "email")[key] for key in keys]
    assert values == ["old", "new", None, None, "m", "old", "new"]


def test_lets_others_pass(shop, case, other, postgresql):
    """A long transaction holds the table: the change gives up and tries again, and a
    reader that came after it is served meanwhile."""
    other.execute("SELECT FROM customer")
    with ThreadPoolExecutor(1) as pool:
        changed = pool.submit(case.recipe.change, shop, case.recipe.EXPAND, 1000, 0.01)
        with psycopg.connect(postgresql, autocommit=True) as reader:
            waits_for_a_lock(reader)
            reader.execute("SET lock_timeout = '10s'")
            assert len(rows(reader, case.old)) == ROWS
            assert not changed.done()
        other.commit()
        assert changed.result(60) > 1


def test_gives_up(shop, case, other):
    """After its last try it raises, and nothing has changed: it can be run again."""
    other.execute("SELECT FROM customer")
    with pytest.raises(LockNotAvailable):
        case.recipe.change(shop, case.recipe.EXPAND, tries=2, pause=0)
    other.commit()
    assert shop.execute("SELECT * FROM customer").fetchone() == (1, "m")
    assert case.recipe.change(shop, case.recipe.EXPAND) == 1


def test_not_in_a_transaction(shop, case, other):
    """It refuses a connection in a transaction, which would keep the locks."""
    other.execute("SELECT 1")
    with pytest.raises(ValueError, match="in a transaction"):
        case.recipe.change(other, case.recipe.EXPAND)


def test_lock_timeout_is_local(conn):
    """The connection waits for locks as before, afterwards."""
    change(conn, EXPAND)
    assert conn.execute("SHOW lock_timeout").fetchone() == ("0",)


def test_backfill_in_batches(shop, case, other):
    """Each batch is a transaction of its own; negative keys are filled too; a second
    run finds nothing to do."""
    shop.execute("INSERT INTO customer VALUES (-5, 'negative')")
    case.recipe.change(shop, case.recipe.EXPAND)
    assert case.recipe.backfill(other, size=20) == ROWS + 1
    assert other.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    other.rollback()
    assert case.recipe.different(shop) == 0
    transactions = "SELECT count(DISTINCT xmin::text) FROM customer"
    assert shop.execute(transactions).fetchone() == (3,)
    assert case.recipe.backfill(shop) == 0


def test_backfill_waits_for_nobody(shop, case, other, monkeypatch):
    """A row that somebody has locked is left for later, so no deadlock can come of it.
    What the other then wrote is what counts."""
    case.recipe.change(shop, case.recipe.EXPAND)
    other.execute(f"UPDATE customer SET {case.old} = 'changed' WHERE id = 2")
    shop.execute("SET lock_timeout = '1ms'")  # were it to wait, it would fail
    pauses = []

    def sleep(seconds):
        pauses.append(case.recipe.different(shop))
        other.commit()

    monkeypatch.setattr(time, "sleep", sleep)
    assert case.recipe.backfill(shop, size=20) == ROWS - 1
    assert pauses == [1]
    assert rows(shop, case.whole)[2] == "changed"


def test_backfill_lets_foreign_keys_through(shop, case, other):
    """A row that the backfill holds can be pointed at meanwhile."""
    shop.execute("CREATE TABLE orders (customer_id int REFERENCES customer)")
    case.recipe.change(shop, case.recipe.EXPAND)
    other.execute("SELECT 1")  # begins a transaction, which keeps the locks
    case.recipe.backfill(other)
    shop.execute("SET lock_timeout = '1ms'")
    shop.execute("INSERT INTO orders VALUES (1)")


def test_backfill_ends(shop, case, other):
    """Where a row stays locked, it raises in the end, and keeps what is filled."""
    case.recipe.change(shop, case.recipe.EXPAND)
    other.execute("SELECT FROM customer WHERE id = 2 FOR UPDATE")
    with pytest.raises(TimeoutError, match="1 rows"):
        case.recipe.backfill(shop, limit=0)
    assert case.recipe.different(shop) == 1


def reads(conn, steps):
    """Which of the steps read the table, as the server says when it is debugged."""
    said = []
    conn.add_notice_handler(lambda notice: said.append(notice.message_primary))
    conn.execute("SET client_min_messages = debug1")
    found = []
    for step in steps:
        said.clear()
        change(conn, step)
        if 'verifying table "customer"' in said:
            found.append(step)
    return found


def test_not_null_without_a_scan(shop, case):
    """The new column gets its NOT NULL, and only VALIDATE reads the table, under a lock
    that lets others write."""
    case.recipe.change(shop, case.recipe.EXPAND)
    case.recipe.backfill(shop)
    assert reads(shop, steps := case.recipe.REQUIRE) == [steps[1]]
    with pytest.raises(psycopg.errors.NotNullViolation):
        shop.execute("INSERT INTO customer DEFAULT VALUES")


def test_validated_while_others_write(conn, other):
    """VALIDATE does not wait for somebody who is writing, nor make them wait."""
    change(conn, EXPAND)
    backfill(conn)
    change(conn, REQUIRE[0])
    other.execute("INSERT INTO customer (mail) VALUES ('before')")
    with conn.transaction():
        conn.execute("SET LOCAL lock_timeout = '1ms'")
        conn.execute(REQUIRE[1])
        other.execute("SET lock_timeout = '1ms'")
        other.execute("INSERT INTO customer (mail) VALUES ('meanwhile')")


def test_contract_looks_first(shop, case):
    """Rows that bypassed the trigger stop the last step: nothing is dropped."""
    case.recipe.change(shop, case.recipe.EXPAND)
    case.recipe.backfill(shop)
    shop.execute("SET session_replication_role = replica")
    shop.execute(f"UPDATE customer SET {case.old} = 'bypassed' WHERE id = 1")
    with pytest.raises(ValueError, match="1 rows differ"):
        case.recipe.contract(shop)
    assert rows(shop, case.old)[1] == "bypassed"


# --8<-- [start:alembic]
def upgrade(op):
    """In a migration, where `op` is imported: one revision for each step."""
    with op.get_context().autocommit_block():
        change(op.get_bind().connection.driver_connection, EXPAND)


# --8<-- [end:alembic]


def test_in_alembic(conn, postgresql):
    """The step runs in an Alembic migration too, outside its transaction."""
    url = postgresql.replace("postgresql://", "postgresql+psycopg://")
    engine = create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"transaction_per_migration": True}
        )
        with context.begin_transaction(_per_migration=True):
            upgrade(Operations(context))
    engine.dispose()
    assert backfill(conn) == ROWS


# --8<-- [start:wrong]
RENAME = "ALTER TABLE customer RENAME COLUMN mail TO email"
# --8<-- [end:wrong]


def test_often_copied_drop_in_the_same_statement(conn):
    """Often copied: the check dropped in the statement that sets NOT NULL. ALTER TABLE
    drops first, so every row is read again, under the strongest lock."""
    change(conn, EXPAND)
    backfill(conn)
    both = "ALTER TABLE customer ALTER email SET NOT NULL, DROP CONSTRAINT has_email"
    assert reads(conn, [*REQUIRE[:2], both]) == [REQUIRE[1], both]


def test_often_copied_rename(conn, other):
    """Often copied: renamed in one step, the next request of the running version
    fails."""
    conn.execute(RENAME)
    with pytest.raises(UndefinedColumn):
        other.execute("INSERT INTO customer (mail) VALUES ('lost')")


def test_often_copied_no_lock_timeout(conn, other, postgresql):
    """Often copied: without lock_timeout, the change waits for one long transaction,
    and every reader that comes after waits behind it."""
    other.execute("SELECT FROM customer")
    with (
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(postgresql, autocommit=True) as reader,
    ):
        changed = pool.submit(conn.execute, RENAME)
        try:
            waits_for_a_lock(reader)
            reader.execute("SET lock_timeout = '100ms'")
            with pytest.raises(LockNotAvailable):
                rows(reader, "mail")
            assert not changed.done()
        finally:
            other.commit()
        changed.result(60)


def test_often_copied_star(conn, other):
    """Often copied: SELECT * as a prepared statement fails once a column is added."""
    other.autocommit = True
    query = "SELECT * FROM customer"
    other.execute(query, prepare=True)
    change(conn, EXPAND)
    with pytest.raises(FeatureNotSupported, match="cached plan"):
        other.execute(query, prepare=True)
    change(conn, CONTRACT)
