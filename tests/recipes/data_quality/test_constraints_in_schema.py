import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
import sqlalchemy as sa
from psycopg import errors

from recipes.data_quality.constraints_in_schema import (
    OLD,
    booking,
    concert,
    find_bad_rows,
    metadata,
    open_engine,
)
from recipes.data_quality.constraints_in_schema_postgresql import (
    add_unique,
    add_unproved,
    prove,
    unproved,
)

GOOD = {"id": 1, "concert_id": 1, "seat": "A1", "cents": 2500, "voucher": None}


@pytest.fixture
def engine(database):
    """Tables with all constraints, and one concert."""
    engine = open_engine(database)
    metadata.create_all(engine)
    with engine.begin() as conn:
        conn.execute(concert.insert().values(id=1))
    yield engine
    engine.dispose()


@pytest.fixture
def old(database):
    """A connection to a booking table without any constraint, and one concert."""
    engine = open_engine(database)
    with engine.begin() as conn:
        concert.create(conn)
        conn.execute(concert.insert().values(id=1))
        conn.execute(sa.text(OLD))
        yield conn
    engine.dispose()


def store(engine, *rows):
    with engine.begin() as conn:
        for row in rows:
            conn.execute(booking.insert().values(GOOD | row))


def count(engine):
    with engine.connect() as conn:
        return conn.scalar(sa.select(sa.func.count()).select_from(booking))


def test_takes_good_rows(engine):
    """Good rows are stored: another seat, a price of zero, and no voucher twice."""
    store(engine, {}, {"id": 2, "seat": "A2", "cents": 0})
    assert count(engine) == 2


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"seat": None}, id="null"),
        pytest.param({"seat": ""}, id="empty"),
        pytest.param({"cents": -1}, id="too-low"),
        pytest.param({"cents": 100001}, id="too-high"),
        pytest.param({"cents": "many"}, id="no-number"),
        pytest.param({"concert_id": 9}, id="no-such-concert"),
        pytest.param({"seat": "A1"}, id="seat-twice"),
        pytest.param({"voucher": "X"}, id="voucher-twice"),
        pytest.param({"id": 1}, id="key-twice"),
    ],
)
def test_refuses(engine, bad):
    """Refused, whoever sends it: NULL, an empty seat, a price out of bounds or no
    number, a concert that does not exist, a seat, a voucher or a key twice."""
    store(engine, {"voucher": "X"})
    with pytest.raises(sa.exc.DBAPIError):
        store(engine, {"id": 2, "seat": "B2"} | bad)
    assert count(engine) == 1


def test_keeps_the_parent(engine):
    """A concert with bookings cannot be deleted."""
    store(engine, {})
    with pytest.raises(sa.exc.DBAPIError), engine.begin() as conn:
        conn.execute(concert.delete())
    assert count(engine) == 1


def test_every_connection(engine):
    """References are enforced on every connection of the pool, not on one alone."""
    with engine.connect(), engine.connect() as second:
        with pytest.raises(sa.exc.IntegrityError):
            second.execute(booking.insert().values(GOOD | {"concert_id": 9}))
        second.rollback()


def test_a_check_takes_null(database):
    """A check lets NULL pass: without NOT NULL it refuses too little."""
    engine = open_engine(database)
    with engine.begin() as conn:
        conn.execute(sa.text("CREATE TABLE t (n int CHECK (n > 0))"))
        conn.execute(sa.text("INSERT INTO t VALUES (NULL)"))
        assert conn.scalar(sa.text("SELECT count(*) FROM t")) == 1
    engine.dispose()


def test_fraction(engine):
    """Half a cent is refused by SQLite's STRICT table; the others round it."""
    half = sa.text("INSERT INTO booking VALUES (1, 1, 'A1', 2500.5, NULL)")
    if engine.dialect.name == "sqlite":
        with pytest.raises(sa.exc.IntegrityError), engine.begin() as conn:
            conn.execute(half)
        return
    with engine.begin() as conn:
        conn.execute(half)
        assert conn.scalar(sa.select(booking.c.cents)) == 2501


def test_capital_letters(engine):
    """Seats "A1" and "a1" are one on MySQL and MariaDB, and two on the others."""
    store(engine, {})
    if engine.dialect.name in {"mysql", "mariadb"}:
        with pytest.raises(sa.exc.IntegrityError):
            store(engine, {"id": 2, "seat": "a1"})
    else:
        store(engine, {"id": 2, "seat": "a1"})


def test_finds_what_breaks_each_constraint(old):
    """For each constraint it finds the rows that break it, and only those."""
    rows = [
        GOOD,
        GOOD | {"id": 2, "seat": None},
        GOOD | {"id": 3, "seat": ""},
        GOOD | {"id": 4, "seat": "B1", "cents": -1},
        GOOD | {"id": 5, "seat": "B2", "concert_id": 9},
        GOOD | {"id": 6, "seat": "B3", "voucher": "X"},
        GOOD | {"id": 7, "seat": "B4", "voucher": "X"},
        GOOD | {"id": 8, "seat": "B5", "concert_id": None, "cents": None},
        GOOD | {"id": 9, "seat": "A1"},
        GOOD | {"id": 10, "seat": "B6"},
        GOOD | {"id": 10, "seat": "B7"},
    ]
    for row in rows:
        old.execute(booking.insert().values(row))
    found = find_bad_rows(old, booking)
    assert {name: sorted(row.id for row in bad) for name, bad in found.items()} == {
        "seat NOT NULL": [2],
        "booking_seat": [3],
        "booking_cents": [4],
        "booking_concert": [5],
        "booking_voucher_once": [6, 7],
        "concert_id NOT NULL": [8],
        "cents NOT NULL": [8],
        "booking_seat_once": [1, 9],
        "PRIMARY KEY": [10, 10],
    }


def test_finds_nothing_in_good_rows(old):
    """Where it finds nothing, the table with its constraints takes every row."""
    rows = [GOOD, GOOD | {"id": 2, "seat": "A2"}]
    old.execute(booking.insert().values(rows))
    assert find_bad_rows(old, booking) == {}
    booking.drop(old)
    booking.create(old)
    old.execute(booking.insert().values(rows))


def test_finds_no_more_than_the_limit(old):
    """A table full of bad rows gives no more than the limit for each constraint."""
    bad = [GOOD | {"id": n, "seat": f"A{n}", "cents": -n} for n in range(1, 21)]
    old.execute(booking.insert().values(bad))
    assert len(find_bad_rows(old, booking, limit=5)["booking_cents"]) == 5


def test_strict_where_the_server_is_not(database):
    """A text is refused as a price, even where the sql_mode of MySQL is lax."""
    lax = "?init_command=SET%20sql_mode%3D%27%27" if "mysql" in database else ""
    engine = open_engine(database + lax)
    metadata.create_all(engine)
    insert = sa.text("INSERT INTO booking VALUES (1, 1, 'A1', 'many', NULL)")
    with engine.begin() as conn:
        conn.execute(concert.insert().values(id=1))
    with pytest.raises(sa.exc.DBAPIError), engine.begin() as conn:
        conn.execute(insert)
    engine.dispose()


def add(engine, name):
    """Add a constraint of the booking table to the stored one."""
    rule = next(rule for rule in booking.constraints if rule.name == name)
    with engine.begin() as conn:
        conn.execute(sa.schema.AddConstraint(rule, isolate_from_table=False))


@pytest.fixture
def bad(database):
    """A booking table without any constraint, and a row that breaks two."""
    engine = open_engine(database)
    with engine.begin() as conn:
        concert.create(conn)
        conn.execute(sa.text(OLD))
        conn.execute(booking.insert().values(GOOD | {"concert_id": 9, "cents": -1}))
    yield engine
    engine.dispose()


@pytest.mark.parametrize("name", ["booking_cents", "booking_concert"])
def test_alter_table_refuses_bad_rows(bad, name):
    """ALTER TABLE refuses a constraint that a row breaks; SQLite adds none at all."""
    said = "syntax" if bad.dialect.name == "sqlite" else name
    with pytest.raises(sa.exc.DBAPIError, match=said):
        add(bad, name)
    with bad.begin() as conn:
        conn.execute(booking.insert().values(GOOD | {"id": 2, "concert_id": 9}))


def test_alter_table_takes_good_rows(bad):
    """Without the bad rows, ALTER TABLE adds the constraint; not on SQLite."""
    with bad.begin() as conn:
        conn.execute(booking.delete())
    if bad.dialect.name == "sqlite":
        with pytest.raises(sa.exc.OperationalError, match="syntax"):
            add(bad, "booking_cents")
        return
    add(bad, "booking_cents")
    with pytest.raises(sa.exc.DBAPIError):
        store(bad, {"cents": -1})


def test_foreign_key_checks_off(bad):
    """On MySQL and MariaDB, a reference that is added with foreign_key_checks off keeps
    the rows that point nowhere; the search finds them."""
    if bad.dialect.name in {"mysql", "mariadb"}:
        off = "SET foreign_key_checks = 0"
        sa.event.listen(bad, "begin", lambda conn: conn.exec_driver_sql(off))
        add(bad, "booking_concert")
    with bad.begin() as conn:
        assert "booking_concert" in find_bad_rows(conn, booking)


@pytest.fixture
def used(postgresql):
    """A PostgreSQL table in use, that holds a bad row and a lost one."""
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute("CREATE TABLE concert (id int PRIMARY KEY)")
        conn.execute("CREATE TABLE booking (id int, concert int, seat text, cents int)")
        conn.execute("INSERT INTO booking VALUES (1, 9, 'A1', -1)")
        yield conn


CENTS = ("booking", "booking_cents", "CHECK (cents >= 0)")


def test_not_valid_refuses_new_rows(used):
    """NOT VALID: new bad rows are refused at once, the old ones stay."""
    add_unproved(used, *CENTS)
    with pytest.raises(errors.CheckViolation):
        used.execute("INSERT INTO booking VALUES (2, 9, 'A2', -1)")
    assert used.execute("SELECT id FROM booking").fetchall() == [(1,)]
    assert unproved(used) == [("booking", "booking_cents")]


def test_not_valid_refuses_changes_of_bad_rows(used):
    """NOT VALID: any change of a bad row is refused until it is mended, whatever column
    it changes; a lost reference alone does not stop that."""
    add_unproved(used, "booking", "fk", "FOREIGN KEY (concert) REFERENCES concert (id)")
    used.execute("UPDATE booking SET seat = 'B1'")
    add_unproved(used, *CENTS)
    with pytest.raises(errors.CheckViolation):
        used.execute("UPDATE booking SET seat = 'C1'")
    used.execute("UPDATE booking SET cents = 0")


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        pytest.param("CHECK (cents >= 0)", errors.CheckViolation, id="check"),
        pytest.param("NOT NULL id", errors.NotNullViolation, id="not-null"),
        pytest.param(
            "FOREIGN KEY (concert) REFERENCES concert (id)",
            errors.ForeignKeyViolation,
            id="reference",
        ),
    ],
)
def test_prove(used, rule, error):
    """CHECK, NOT NULL and FOREIGN KEY are proved when the bad rows are gone; before
    that the attempt is refused and changes nothing."""
    used.execute("INSERT INTO booking VALUES (NULL, NULL, 'A2', 5)")
    add_unproved(used, "booking", "rule", rule)
    with pytest.raises(error):
        prove(used, "booking", "rule")
    assert unproved(used) == [("booking", "rule")]
    used.execute("DELETE FROM booking")
    prove(used, "booking", "rule")
    assert unproved(used) == []


def test_prove_while_others_write(used, postgresql):
    """It proves while another transaction has written rows and not committed them; a
    plain ADD CONSTRAINT would wait for it."""
    used.execute("UPDATE booking SET cents = 0")
    add_unproved(used, *CENTS)
    used.execute("SET lock_timeout = '50ms'")
    with psycopg.connect(postgresql) as writer:
        writer.execute("INSERT INTO booking VALUES (2, 9, 'A2', 5)")
        prove(used, "booking", "booking_cents")
        with pytest.raises(errors.LockNotAvailable):
            used.execute("ALTER TABLE booking ADD CHECK (cents >= 0)")


def test_patience(used, postgresql):
    """Where the table is busy it gives up after its patience, and nobody waits behind
    it; the connection's own lock_timeout is as before."""
    with psycopg.connect(postgresql) as reader:
        reader.execute("SELECT * FROM booking")
        with pytest.raises(errors.LockNotAvailable):
            add_unproved(used, *CENTS, patience="50ms")
    assert unproved(used) == []
    add_unproved(used, *CENTS)
    assert used.execute("SHOW lock_timeout").fetchone() == ("0",)


def test_unique(used):
    """From then on a duplicate of those columns is refused."""
    add_unique(used, "booking", "seat_once", ["concert", "seat"])
    used.execute("INSERT INTO booking VALUES (2, 8, 'A1', 5)")
    with pytest.raises(errors.UniqueViolation) as caught:
        used.execute("INSERT INTO booking VALUES (3, 9, 'A1', 5)")
    assert caught.value.diag.constraint_name == "seat_once"


def indexes(conn):
    return conn.execute("SELECT indexname FROM pg_indexes ORDER BY 1").fetchall()


def test_unique_while_others_write(used, postgresql):
    """While the index waits for a transaction that is open, others go on writing."""
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    with (
        ThreadPoolExecutor(1) as threads,
        psycopg.connect(postgresql) as writer,
        psycopg.connect(postgresql, autocommit=True) as other,
    ):
        writer.execute("INSERT INTO booking VALUES (2, 8, 'A2', 5)")
        done = threads.submit(add_unique, used, "booking", "seat_once", ["seat"])
        deadline = time.monotonic() + 10
        while other.execute(waits).fetchone() != (1,):
            assert time.monotonic() < deadline, "it never waited"
        other.execute("SET lock_timeout = '5s'")
        other.execute("INSERT INTO booking VALUES (3, 8, 'A3', 5)")
        writer.commit()
        done.result(10)


def test_unique_over_duplicates(used):
    """UNIQUE over duplicates is refused, and no half-made index stays."""
    used.execute("INSERT INTO booking VALUES (2, 9, 'A1', 5)")
    before = indexes(used)
    with pytest.raises(errors.UniqueViolation):
        add_unique(used, "booking", "seat_once", ["seat"])
    assert indexes(used) == before


def test_unique_keeps_another_index(used):
    """An index that has the name already is not touched."""
    used.execute("CREATE INDEX seat_once ON booking (id)")
    before = indexes(used)
    with pytest.raises(errors.DuplicateTable):
        add_unique(used, "booking", "seat_once", ["seat"])
    assert indexes(used) == before


# --8<-- [start:wrong]
CUSTOMER = """
CREATE TABLE customer (
    id    integer PRIMARY KEY,
    email varchar(100) UNIQUE,
    age   integer CHECK (age >= 18),
    city  integer REFERENCES city (id)
)
"""
# --8<-- [end:wrong]


@pytest.fixture
def customers(database):
    engine = sa.create_engine(database)
    with engine.begin() as conn:
        conn.exec_driver_sql("CREATE TABLE city (id integer PRIMARY KEY)")
        conn.exec_driver_sql("INSERT INTO city VALUES (1)")
        conn.exec_driver_sql(CUSTOMER)
    yield engine
    engine.dispose()


def try_as_copied(engine, values):
    """Whether a customer of those values is stored."""
    try:
        with engine.begin() as conn:
            conn.exec_driver_sql(f"INSERT INTO customer VALUES {values}")
    except sa.exc.DBAPIError:
        return False
    return True


def test_often_copied_takes_null(customers):
    """Often copied: a customer of whom nothing is known is stored, twice."""
    assert try_as_copied(customers, "(1, NULL, NULL, NULL), (2, NULL, NULL, NULL)")


def test_often_copied_takes_empty(customers):
    """Often copied: an empty e-mail address is stored."""
    assert try_as_copied(customers, "(1, '', 18, 1)")


def test_often_copied_on_sqlite(customers):
    """Often copied: SQLite stores a city that does not exist, and an age of "young",
    which is more than 18 there. The others refuse both."""
    on_sqlite = customers.dialect.name == "sqlite"
    assert try_as_copied(customers, "(1, 'a@example.com', 18, 9)") == on_sqlite
    assert try_as_copied(customers, "(2, 'b@example.com', 'young', 1)") == on_sqlite
