"""transact: all or nothing, and once."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from threading import Barrier

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError

from recipes.dynamodb.transact import CONFIG, transfer


@pytest.fixture
def bank(resource):
    """Two accounts: 100.00 and 50.00."""
    table = resource.create_table(
        TableName="bank",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
    )
    for name, balance in (("anna", 100), ("ben", 50)):
        table.put_item(Item={"id": f"account#{name}", "balance": balance})
    return table


@pytest.fixture
def client(bank):
    return bank.meta.client


def state(bank) -> tuple[Decimal, Decimal, int]:
    """Anna's and Ben's balances, and the number of payments."""
    items = {it["id"]: it for it in bank.scan(ConsistentRead=True)["Items"]}
    anna, ben = (items.pop(f"account#{it}")["balance"] for it in ("anna", "ben"))
    return anna, ben, len(items)


def pay(client, payment="1", payer="anna", payee="ben", amount="30.10") -> bool:
    return transfer(client, payment, payer, payee, Decimal(amount))


def test_moves_the_amount(bank, client):
    """The payer loses what the payee gains, to the cent."""
    assert pay(client)
    assert state(bank) == (Decimal("69.90"), Decimal("80.10"), 1)


def test_same_payment_again(bank, client):
    """A payment that is sent twice moves money once."""
    assert [pay(client), pay(client)] == [True, False]
    assert state(bank) == (Decimal("69.90"), Decimal("80.10"), 1)


def test_same_payment_at_the_same_time(bank, client):
    """Eight times at the same moment: money moves once, nobody hears otherwise."""
    start = Barrier(8)

    def run(_: int) -> bool | None:
        start.wait()
        try:
            return pay(client)
        except client.exceptions.TransactionCanceledException:
            return None  # a conflict: nothing moved, call again

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(run, range(8)))
    assert done.count(True) == 1
    assert state(bank) == (Decimal("69.90"), Decimal("80.10"), 1)


def test_key_of_another_payment(bank, client):
    """A key that belongs to another payment is refused."""
    pay(client)
    with pytest.raises(ValueError, match="1 is the key of another payment"):
        pay(client, amount="31")
    assert state(bank) == (Decimal("69.90"), Decimal("80.10"), 1)


@pytest.mark.parametrize(
    ("payer", "payee", "amount", "error"),
    [
        pytest.param("anna", "carl", "5", LookupError, id="unknown-payee"),
        pytest.param("carl", "anna", "5", LookupError, id="unknown-payer"),
        pytest.param("anna", "anna", "5", ValueError, id="to-oneself"),
        pytest.param("anna", "ben", "100.01", LookupError, id="overdraft"),
        pytest.param("anna", "ben", "-20", ValueError, id="negative"),
        pytest.param("anna", "ben", "0", ValueError, id="zero"),
        pytest.param("anna", "ben", "0.015", ValueError, id="half-a-cent"),
        pytest.param("anna", "ben", "NaN", ValueError, id="nan"),
        pytest.param("anna", "ben", "Infinity", ValueError, id="infinity"),
    ],
)
def test_refused(bank, client, payer, payee, amount, error):
    """Refused, and nothing moved: an unknown account, an overdraft, a payment to
    oneself, an amount that is negative, zero, no number, or a fraction of a cent."""
    with pytest.raises(error):
        pay(client, "1", payer, payee, amount)
    assert state(bank) == (100, 50, 0)


def test_all_of_it(bank, client):
    """An account can be emptied to the last cent."""
    assert pay(client, amount="100")
    assert state(bank) == (0, 150, 1)


def test_lost_answer(bank, open_resource, fault_proxy, dynamodb):
    """The answer is lost: the client sends the same token again, and it moves once."""
    proxy = fault_proxy(dynamodb)
    proxy.cut_answer_to(b"DynamoDB_20120810.TransactWriteItems")
    # Not 30.10: MiniStack 1.5 takes it for another request than the 30.1 it has stored.
    assert pay(open_resource(proxy.url, CONFIG).meta.client, amount="30.15")
    assert proxy.was_cut.is_set()
    assert state(bank) == (Decimal("69.85"), Decimal("80.15"), 1)


def test_caller_asks_again(bank, client, open_resource, fault_proxy, dynamodb):
    """The client gave up without an answer: asking again is safe, even much later."""
    proxy = fault_proxy(dynamodb)
    proxy.cut_answer_to(b"DynamoDB_20120810.TransactWriteItems")
    once = Config(retries={"total_max_attempts": 1})
    with pytest.raises(ConnectionClosedError):
        pay(open_resource(proxy.url, once).meta.client)
    assert pay(client) is False
    assert state(bank) == (Decimal("69.90"), Decimal("80.10"), 1)


def test_conflict_reaches_the_caller(bank, stage, open_resource):
    """Another transaction is at work on an account: an error, and nothing moved."""
    stage.plays["TransactWriteItems"] = lambda request, ask: {
        "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
        "message": "Transaction cancelled, please refer cancellation reasons",
        "CancellationReasons": [
            {"Code": "None"},
            {"Code": "TransactionConflict", "Message": "Transaction is ongoing"},
            {"Code": "None"},
        ],
    }
    behind = open_resource(stage.url, CONFIG).meta.client
    with pytest.raises(behind.exceptions.TransactionCanceledException):
        pay(behind)
    assert state(bank) == (100, 50, 0)


def test_other_errors_reach_the_caller(bank, client):
    """No such table, say: the error reaches the caller."""
    bank.delete()
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        pay(client)


# --8<-- [start:wrong]
def transfer_as_copied(table, payer, payee, amount):
    for account, by in ((payer, -amount), (payee, amount)):
        table.update_item(
            Key={"id": f"account#{account}"},
            UpdateExpression="SET balance = balance + :by",
            ExpressionAttributeValues={":by": by},
        )


# --8<-- [end:wrong]


def test_often_copied_loses_money(bank):
    """Often copied: the second update fails, and the money of the first one is gone."""
    with pytest.raises(ClientError):
        transfer_as_copied(bank, "anna", "carl", Decimal(30))
    assert state(bank) == (70, 50, 0)


def test_often_copied_overdraws(bank):
    """Often copied: no condition, so the account goes below zero."""
    transfer_as_copied(bank, "anna", "ben", Decimal(500))
    assert state(bank) == (-400, 550, 0)


def test_often_copied_pays_twice(bank, open_resource, fault_proxy, dynamodb):
    """Often copied: one lost answer, the client sends the debit again: 30 are gone."""
    proxy = fault_proxy(dynamodb)
    proxy.cut_answer_to(b"DynamoDB_20120810.UpdateItem")
    behind = open_resource(proxy.url, CONFIG).Table("bank")
    transfer_as_copied(behind, "anna", "ben", Decimal(30))
    assert state(bank) == (40, 80, 0)
