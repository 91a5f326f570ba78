from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier, Lock, get_ident

import pytest
from bson import Decimal128
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError
from pymongo.monitoring import CommandListener

from recipes.mongodb.transfer_in_transaction import transfer


@pytest.fixture
def bank(set_db):
    """A database with two accounts: 100.00 and 50.00."""
    set_db["account"].insert_many(
        [
            {"_id": 1, "balance": Decimal128("100.00")},
            {"_id": 2, "balance": Decimal128("50.00")},
        ]
    )
    set_db.create_collection("payment")
    return set_db


def balances(bank):
    found = bank["account"].find().sort("_id")
    return [account["balance"].to_decimal() for account in found]


def test_moves_the_amount(bank):
    """The payer loses what the payee gains, to the cent."""
    assert transfer(bank, "a", 1, 2, Decimal("30.10"))
    assert balances(bank) == [Decimal("69.90"), Decimal("80.10")]


def test_exact_beyond_a_float(bank):
    """Cents survive in an amount that a float cannot hold."""
    large = {"$set": {"balance": Decimal128("9007199254740993.00")}}
    bank["account"].update_one({"_id": 2}, large)
    transfer(bank, "a", 2, 1, Decimal("0.01"))
    assert balances(bank) == [Decimal("100.01"), Decimal("9007199254740992.99")]


def test_same_key_moves_once(bank):
    """A payment sent twice with the same key moves money once; 30 and 30.00 are the
    same amount."""
    sent = [transfer(bank, "a", 1, 2, Decimal(amount)) for amount in ("30", "30.00")]
    assert sent == [True, False]
    assert balances(bank) == [70, 80]


def test_same_key_at_the_same_time(bank):
    """The same payment sent eight times at the same moment moves money once."""
    with ThreadPoolExecutor(8) as pool:
        sent = pool.map(lambda _: transfer(bank, "a", 1, 2, Decimal(30)), range(8))
        assert sorted(sent) == [False] * 7 + [True]
    assert balances(bank) == [70, 80]


def test_key_of_another_payment(bank):
    """A key that belongs to another payment is refused."""
    transfer(bank, "a", 1, 2, Decimal(30))
    with pytest.raises(ValueError, match="key of another payment"):
        transfer(bank, "a", 1, 2, Decimal(31))
    assert balances(bank) == [70, 80]


REFUSED = [
    pytest.param(1, 9, "5", LookupError, id="unknown-payee"),
    pytest.param(9, 1, "5", LookupError, id="unknown-payer"),
    pytest.param(1, 2, "100.01", LookupError, id="overdraft"),
    pytest.param(1, 1, "5", ValueError, id="to-oneself"),
    pytest.param(1, 2, "-20", ValueError, id="negative"),
    pytest.param(1, 2, "0", ValueError, id="zero"),
    pytest.param(1, 2, "0.015", ValueError, id="half-a-cent"),
    pytest.param(1, 2, "NaN", ValueError, id="nan"),
]


@pytest.mark.parametrize(("payer", "payee", "amount", "error"), REFUSED)
def test_refused(bank, payer, payee, amount, error):
    """Refused, and nothing moved: an unknown account, an overdraft, a payment to
    oneself, an amount that is negative, zero, NaN, or has a fraction of a cent."""
    with pytest.raises(error):
        transfer(bank, "a", payer, payee, Decimal(amount))
    assert balances(bank) == [100, 50]
    assert bank["payment"].count_documents({}) == 0


class Meeting(CommandListener):
    """Holds two threads after their first update until both have made it."""

    def __init__(self):
        self.barrier, self.seen, self.lock = Barrier(2), set(), Lock()

    def started(self, event): ...

    def succeeded(self, event):
        with self.lock:
            is_first = event.command_name == "update" and get_ident() not in self.seen
            if is_first:
                self.seen.add(get_ident())
        if is_first:
            self.barrier.wait(10)

    def failed(self, event): ...


def cross(uri, transfer):
    """Pay from 1 to 2 and from 2 to 1; both have debited before either credits."""

    def run(payer, payee):
        try:
            return transfer(client.get_default_database(), payer, payee, Decimal(10))
        except PyMongoError as error:
            return error

    meeting = Meeting()
    with (
        MongoClient(uri, event_listeners=[meeting]) as client,
        ThreadPoolExecutor(2) as pool,
    ):
        return [
            end.result() for end in [pool.submit(run, 1, 2), pool.submit(run, 2, 1)]
        ]


def test_crossing_payments(bank, mongodb_replica_set):
    """Two payments that cross, forced to meet half-way, both succeed."""

    def pay(db, payer, payee, amount):
        return transfer(db, f"from {payer}", payer, payee, amount)

    assert cross(mongodb_replica_set, pay) == [True, True]
    assert balances(bank) == [100, 50]


def test_lost_answer(bank, mongodb_replica_set, fault_proxy):
    """The answer to the commit is lost: it is asked again, and money moves once."""
    proxy = fault_proxy(mongodb_replica_set)
    with MongoClient(proxy.url) as client:
        proxy.cut_answer_to(b"commitTransaction")
        assert transfer(client.get_default_database(), "a", 1, 2, Decimal(30))
    assert proxy.was_cut.is_set()
    assert balances(bank) == [70, 80]


@pytest.mark.parametrize("request_", [b"insert", b"update", b"commitTransaction"])
def test_lost_request(bank, mongodb_replica_set, fault_proxy, request_):
    """The line is cut before any of the statements: the money moves once."""
    proxy = fault_proxy(mongodb_replica_set)
    with MongoClient(proxy.url) as client:
        proxy.cut_before(request_)
        assert transfer(client.get_default_database(), "a", 1, 2, Decimal(30))
    assert proxy.was_cut.is_set()
    assert balances(bank) == [70, 80]


def test_gives_up(bank, mongodb_replica_set, fault_proxy):
    """The server stays silent: an error after `timeout` seconds; nothing moved."""
    proxy = fault_proxy(mongodb_replica_set)
    with MongoClient(proxy.url) as client:
        db = client.get_default_database()
        db["account"].find_one()
        proxy.black_hole()
        with pytest.raises(PyMongoError):
            transfer(db, "a", 1, 2, Decimal(30), timeout=0.3)
        proxy.black_hole(False)
    assert balances(bank) == [100, 50]


# --8<-- [start:wrong]
def transfer_as_copied(db, payer, payee, amount):
    accounts = db["account"]
    with db.client.start_session() as session, session.start_transaction():
        debit = {"$inc": {"balance": Decimal128(-amount)}}
        accounts.update_one({"_id": payer}, debit, session=session)
        credit = {"$inc": {"balance": Decimal128(amount)}}
        accounts.update_one({"_id": payee}, credit, session=session)


# --8<-- [end:wrong]


def test_often_copied_loses_money(bank):
    """Often copied: money sent to an unknown account is gone, without an error."""
    transfer_as_copied(bank, 1, 9, Decimal(5))
    assert balances(bank) == [95, 50]


def test_often_copied_overdraws_and_steals(bank):
    """Often copied: the payer's balance becomes negative; a negative amount takes from
    the payee."""
    transfer_as_copied(bank, 1, 2, Decimal(120))
    transfer_as_copied(bank, 1, 2, Decimal(-200))
    assert balances(bank) == [180, -30]


def test_often_copied_conflict(bank, mongodb_replica_set):
    """Often copied: of two payments that cross, at least one ends in an error that
    was only a reason to try again."""
    ends = cross(mongodb_replica_set, transfer_as_copied)
    errors = [end for end in ends if end]
    assert errors
    for error in errors:
        assert isinstance(error, OperationFailure)
        assert error.has_error_label("TransientTransactionError")


# --8<-- [start:wrong_session]
def debit_as_often_copied(db, payer, amount):
    with db.client.start_session() as session, session.start_transaction():
        change = {"$inc": {"balance": Decimal128(-amount)}}
        db["account"].update_one({"_id": payer}, change)  # no session=
        raise LookupError("the payee is unknown")


# --8<-- [end:wrong_session]


def test_often_copied_forgets_the_session(bank):
    """Often copied: a statement without `session=` is not part of the transaction, and
    stays when it is undone."""
    with pytest.raises(LookupError):
        debit_as_often_copied(bank, 1, Decimal(5))
    assert balances(bank) == [95, 50]
