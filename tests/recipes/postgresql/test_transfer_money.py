"""transfer_money: exact, all or nothing, once, and without deadlocks."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from uuid import uuid4

import psycopg
import pytest
from psycopg import errors

from recipes.postgresql.transfer_money import SCHEMA, transfer, transfer_with_retries


@pytest.fixture
def bank(postgresql: str) -> Iterator[psycopg.Connection]:
    """A connection to a database with two accounts: 100.00 and 50.00."""
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute(SCHEMA)
        conn.execute("INSERT INTO account VALUES (2, 50), (1, 100)")
        yield conn


def balances(conn: psycopg.Connection) -> list[Decimal]:
    rows = conn.execute("SELECT balance FROM account ORDER BY id").fetchall()
    return [balance for (balance,) in rows]


def test_moves_the_amount(bank):
    """The payer loses what the payee gains, to the cent."""
    assert transfer(bank, uuid4(), 1, 2, Decimal("30.10"))
    assert balances(bank) == [Decimal("69.90"), Decimal("80.10")]


def test_exact_beyond_a_float(bank):
    """Cents survive in an amount that a float cannot hold."""
    bank.execute("UPDATE account SET balance = 9007199254740993 WHERE id = 2")
    transfer(bank, uuid4(), 2, 1, Decimal("0.01"))
    assert balances(bank) == [Decimal("100.01"), Decimal("9007199254740992.99")]


def test_same_key_moves_once(bank):
    """A payment sent twice with the same key moves money once."""
    key = uuid4()
    assert [transfer(bank, key, 1, 2, Decimal(30)) for _ in range(2)] == [True, False]
    assert balances(bank) == [70, 80]


def test_same_key_at_the_same_time(bank, postgresql):
    """The same payment sent twice at the same moment moves money once."""
    key = uuid4()

    def send(conn: psycopg.Connection) -> bool:
        return transfer(conn, key, 1, 2, Decimal(30))

    assert sorted(meet(bank, postgresql, send, send)) == [False, True]
    assert balances(bank) == [70, 80]


def test_key_of_another_payment(bank):
    """A key that belongs to another payment is refused."""
    key = uuid4()
    transfer(bank, key, 1, 2, Decimal(30))
    with pytest.raises(ValueError, match=str(key)):
        transfer(bank, key, 1, 2, Decimal(31))
    assert balances(bank) == [70, 80]


@pytest.mark.parametrize(
    ("payer", "payee", "amount", "error"),
    [
        pytest.param(1, 9, "5", errors.ForeignKeyViolation, id="unknown-payee"),
        pytest.param(9, 1, "5", errors.ForeignKeyViolation, id="unknown-payer"),
        pytest.param(1, 1, "5", errors.CheckViolation, id="to-oneself"),
        pytest.param(1, 2, "100.01", errors.CheckViolation, id="overdraft"),
        pytest.param(1, 2, "-20", errors.CheckViolation, id="negative"),
        pytest.param(1, 2, "0", errors.CheckViolation, id="zero"),
        pytest.param(1, 2, "0.015", errors.CheckViolation, id="half-a-cent"),
        pytest.param(1, 2, "NaN", errors.CheckViolation, id="nan"),
    ],
)
def test_refused(bank, payer, payee, amount, error):
    """Refused, and nothing moved: an unknown account, an overdraft, a payment to
    oneself, an amount that is negative, zero, NaN, or has a fraction of a cent."""
    with pytest.raises(error):
        transfer(bank, uuid4(), payer, payee, Decimal(amount))
    assert balances(bank) == [100, 50]
    assert bank.execute("SELECT count(*) FROM payment").fetchone() == (0,)


def test_hidden_row(bank):
    """An account that the database silently keeps from changing is an error."""
    bank.execute("""
        CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER keep BEFORE UPDATE ON account FOR EACH ROW
            WHEN (OLD.id = 2) EXECUTE FUNCTION keep();
    """)
    with pytest.raises(RuntimeError, match="1 of 2"):
        transfer(bank, uuid4(), 1, 2, Decimal(5))
    assert balances(bank) == [100, 50]


def test_part_of_a_larger_transaction(bank):
    """Inside a transaction of the caller's, it is committed or undone with that one."""
    with bank.transaction(force_rollback=True):
        transfer(bank, uuid4(), 1, 2, Decimal(5))
        assert balances(bank) == [95, 55]
    assert balances(bank) == [100, 50]


def wait_until_blocked(bank: psycopg.Connection, count: int) -> None:
    """Return when that many connections wait for another one."""
    query = """
        SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND pg_blocking_pids(pid) <> '{}'
    """
    deadline = time.monotonic() + 10
    while bank.execute(query).fetchone() != (count,):
        assert time.monotonic() < deadline, f"{count} connections never waited"


def meet(bank, url: str, *payments: Callable[[psycopg.Connection], object]) -> list:
    """Run two payments that are sure to meet half-way; return their ends.

    We hold accounts 1 and 2, and let go of each when both payments wait.
    """

    def run(payment: Callable[[psycopg.Connection], object]) -> object:
        with psycopg.connect(url, options="-c deadlock_timeout=10ms") as conn:
            try:
                return payment(conn)
            except psycopg.Error as error:
                return error

    with ThreadPoolExecutor() as threads, hold(url, 1) as one, hold(url, 2) as two:
        running = [threads.submit(run, payment) for payment in payments]
        for holder in (one, two):
            wait_until_blocked(bank, 2)
            holder.rollback()
        return [future.result() for future in running]


def hold(url: str, account: int) -> psycopg.Connection:
    """A connection in a transaction that has locked the account."""
    conn = psycopg.connect(url)
    conn.execute("SELECT FROM account WHERE id = %s FOR NO KEY UPDATE", (account,))
    return conn


def cross(bank, url: str, transfer) -> list:
    """Pay from 1 to 2 and from 2 to 1 at the same time."""
    return meet(
        bank,
        url,
        lambda conn: transfer(conn, 1, 2, Decimal(10)),
        lambda conn: transfer(conn, 2, 1, Decimal(10)),
    )


@pytest.mark.parametrize(("payer", "payee"), [(1, 2), (2, 1)])
def test_smaller_id_first(bank, postgresql, payer, payee):
    """While account 1 is busy, a payment in either direction leaves account 2 free."""
    # Row 2 lies before row 1 in the table: without ORDER BY it would be locked first.
    in_table_order = "-c enable_indexscan=off -c enable_bitmapscan=off"
    with (
        psycopg.connect(postgresql, options=in_table_order) as conn,
        ThreadPoolExecutor() as threads,
        hold(postgresql, 1) as holder,
    ):
        done = threads.submit(transfer, conn, uuid4(), payer, payee, Decimal(5))
        wait_until_blocked(bank, 1)
        bank.execute("SELECT FROM account WHERE id = 2 FOR NO KEY UPDATE NOWAIT")
        holder.rollback()
        assert done.result()


def test_crossing_payments(bank, postgresql):
    """Two payments that cross, forced to meet half-way, both succeed."""
    done = cross(bank, postgresql, lambda conn, *args: transfer(conn, uuid4(), *args))
    assert done == [True, True]
    assert balances(bank) == [100, 50]


def test_lost_answer(bank, postgresql, fault_proxy):
    """The answer to COMMIT is lost: the retry finds the payment and moves nothing."""
    proxy = fault_proxy(postgresql)
    proxy.cut_answer_to(b"COMMIT")
    assert not transfer_with_retries(proxy.url, uuid4(), 1, 2, Decimal(30))
    assert proxy.was_cut.is_set()
    assert balances(bank) == [70, 80]


@pytest.mark.parametrize("request_", [b"INSERT", b"UPDATE account", b"COMMIT"])
def test_lost_request(bank, postgresql, fault_proxy, request_):
    """The line is cut before any of the statements: the retry moves the money."""
    proxy = fault_proxy(postgresql)
    proxy.cut_before(request_)
    assert transfer_with_retries(proxy.url, uuid4(), 1, 2, Decimal(30))
    assert proxy.was_cut.is_set()
    assert balances(bank) == [70, 80]


def test_gives_up(bank, postgresql, fault_proxy):
    """It tries once more after each pause, then the error reaches the caller."""
    proxy = fault_proxy(postgresql)
    proxy.refuse()
    with pytest.raises(psycopg.OperationalError):
        transfer_with_retries(proxy.url, uuid4(), 1, 2, Decimal(30), pauses=(0, 0))
    assert proxy.connections == 3


def test_refused_payment_is_not_retried(bank, postgresql, fault_proxy):
    """An overdraft is an answer, not a fault: it is not tried again."""
    proxy = fault_proxy(postgresql)
    with pytest.raises(errors.CheckViolation):
        transfer_with_retries(proxy.url, uuid4(), 1, 2, Decimal(500))
    assert proxy.connections == 1


# --8<-- [start:wrong]
def transfer_as_copied(conn, payer, payee, amount):
    cur = conn.cursor()
    try:
        cur.execute("BEGIN")
        debit = "UPDATE account SET balance = balance - %s WHERE id = %s"
        cur.execute(debit, (amount, payer))
        credit = "UPDATE account SET balance = balance + %s WHERE id = %s"
        cur.execute(credit, (amount, payee))
        cur.execute("COMMIT")
    except Exception:
        cur.execute("ROLLBACK")
        raise


# --8<-- [end:wrong]


def test_often_copied_loses_money(bank):
    """Often copied: money sent to an unknown account is gone, without an error."""
    transfer_as_copied(bank, 1, 9, Decimal(5))
    assert balances(bank) == [95, 50]


def test_often_copied_steals(bank):
    """Often copied: a negative amount takes money from the payee."""
    transfer_as_copied(bank, 1, 2, Decimal(-20))
    assert balances(bank) == [120, 30]


def test_often_copied_makes_money(bank):
    """Often copied: half a cent is rounded up twice, and a cent comes from nowhere."""
    transfer_as_copied(bank, 1, 2, Decimal("0.005"))
    assert balances(bank) == [100, Decimal("50.01")]


def test_often_copied_float(bank):
    """Often copied, with a float: the sum is computed in floating point, 2 are lost."""
    bank.execute("UPDATE account SET balance = 9007199254740993 WHERE id = 2")
    transfer_as_copied(bank, 1, 2, 0.5)
    assert balances(bank)[1] == 9007199254740990


def test_often_copied_deadlocks(bank, postgresql):
    """Often copied: of two payments that cross, one ends in DeadlockDetected."""
    ends = cross(bank, postgresql, transfer_as_copied)
    assert sorted(type(end) for end in ends if end) == [errors.DeadlockDetected]


def test_often_copied_pays_twice(bank, postgresql, fault_proxy):
    """Often copied: sent again after a lost answer, it pays twice."""
    proxy = fault_proxy(postgresql)
    proxy.cut_answer_to(b"COMMIT")
    for _ in range(2):
        with psycopg.connect(proxy.url) as conn:
            try:
                transfer_as_copied(conn, 1, 2, Decimal(30))
                break
            except psycopg.OperationalError:
                continue
    assert proxy.was_cut.is_set()
    assert balances(bank) == [40, 110]


def test_often_copied_hides_the_error(bank, postgresql):
    """Often copied: ROLLBACK on a dead connection hides the error that killed it."""
    bank.execute("""
        CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END
            $$;
        CREATE TRIGGER die AFTER UPDATE ON account EXECUTE FUNCTION die();
    """)
    with psycopg.connect(postgresql) as conn:
        with pytest.raises(psycopg.OperationalError, match="connection") as raised:
            transfer_as_copied(conn, 1, 2, Decimal(5))
        assert not isinstance(raised.value, errors.AdminShutdown)
