"""batch_write: nothing that the table had no capacity for is lost."""

import pytest
from botocore.exceptions import ClientError

from recipes.dynamodb.batch_write import CONFIG, write

KEY = ("sensor", "minute")


@pytest.fixture
def table(resource):
    return resource.create_table(
        TableName="reading",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[
            {"AttributeName": "sensor", "AttributeType": "S"},
            {"AttributeName": "minute", "AttributeType": "N"},
        ],
        KeySchema=[
            {"AttributeName": "sensor", "KeyType": "HASH"},
            {"AttributeName": "minute", "KeyType": "RANGE"},
        ],
    )


@pytest.fixture
def client(table):
    return table.meta.client


def readings(count: int) -> list[dict]:
    return [{"sensor": "s", "minute": n, "value": n} for n in range(count)]


def stored(table) -> list[int]:
    return sorted(int(item["value"]) for item in table.scan()["Items"])


def only_the_first(count: int):
    """A server with capacity for that many items of each request."""

    def play(request, ask):
        ((table, puts),) = request["RequestItems"].items()
        answer = {"UnprocessedItems": {}}
        if puts[:count]:
            answer = ask({"RequestItems": {table: puts[:count]}})
        if puts[count:]:
            answer["UnprocessedItems"] = {table: puts[count:]}
        return answer

    return play


@pytest.mark.parametrize("count", [0, 1, 25, 26, 60])
def test_writes_them_all(table, client, count):
    """All items are stored, whether or not they fill whole batches of 25."""
    assert write(client, "reading", iter(readings(count)), KEY) == count
    assert stored(table) == list(range(count))


def test_sends_again_what_was_not_processed(table, stage, open_resource):
    """The table has capacity for ten of a batch: the others are sent again."""
    stage.plays["BatchWriteItem"] = only_the_first(10)
    behind = open_resource(stage.url).meta.client
    assert write(behind, "reading", readings(60), KEY, pause=0) == 60
    assert stored(table) == list(range(60))
    assert stage.calls.count("BatchWriteItem") == 3 + 3 + 1


def test_says_what_it_could_not_write(table, stage, open_resource):
    """The table has no capacity left: an error after the last try, not silence."""
    stage.plays["BatchWriteItem"] = only_the_first(0)
    behind = open_resource(stage.url).meta.client
    with pytest.raises(RuntimeError, match="25 items were not written to reading"):
        write(behind, "reading", readings(60), KEY, tries=3, pause=0)
    assert stage.calls.count("BatchWriteItem") == 3


def test_waits_longer_each_time(table, stage, open_resource, monkeypatch):
    """The pauses before it sends again grow, up to twice as long each time."""
    pauses = []
    monkeypatch.setattr("time.sleep", pauses.append)
    monkeypatch.setattr("random.uniform", lambda _, most: most)
    stage.plays["BatchWriteItem"] = only_the_first(10)
    write(open_resource(stage.url).meta.client, "reading", readings(25), KEY)
    assert pauses == [0.05, 0.1]


def test_later_item_wins(table, client):
    """Two items with one key: the later one is stored, and the batch is not refused."""
    items = [*readings(2), {"sensor": "s", "minute": 0, "value": 7}, *readings(0)]
    assert write(client, "reading", items, KEY) == 3
    assert stored(table) == [1, 7]


def test_reads_as_it_writes(table, client):
    """It takes the items as it needs them: what came in whole batches before an error
    in your own generator is stored, and nothing of it is kept in memory."""

    def broken():
        yield from readings(30)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write(client, "reading", broken(), KEY)
    assert stored(table) == list(range(25))


def test_bad_item(table, client):
    """A bad item is an error: what came in batches before it is stored, it is not."""
    items = [*readings(25), {"sensor": "s", "value": 25}]
    with pytest.raises(KeyError, match="minute"):
        write(client, "reading", items, KEY)
    assert stored(table) == list(range(25))
    with pytest.raises(ClientError, match="ValidationException"):
        write(client, "reading", [{"sensor": "s", "minute": "one"}], KEY)


def test_lost_answer(table, open_resource, fault_proxy, dynamodb):
    """The answer is lost: the batch is sent again, which changes nothing."""
    proxy = fault_proxy(dynamodb)
    proxy.cut_answer_to(b"DynamoDB_20120810.BatchWriteItem")
    behind = open_resource(proxy.url, CONFIG).meta.client
    assert write(behind, "reading", readings(25), KEY) == 25
    assert proxy.was_cut.is_set()
    assert stored(table) == list(range(25))


# --8<-- [start:wrong]
def write_as_copied(client, table, items):
    for start in range(0, len(items), 25):
        puts = [{"PutRequest": {"Item": item}} for item in items[start : start + 25]]
        client.batch_write_item(RequestItems={table: puts})


# --8<-- [end:wrong]


def test_often_copied_loses_items(table, stage, open_resource):
    """Often copied: capacity for 10 of 25, no error, and 15 readings are lost."""
    stage.plays["BatchWriteItem"] = only_the_first(10)
    behind = open_resource(stage.url).meta.client
    write_as_copied(behind, "reading", readings(25))
    assert stored(table) == list(range(10))


def test_often_copied_refused_as_a_whole(table, client):
    """Often copied: two items with one key, and the whole batch is refused."""
    with pytest.raises(ClientError, match="duplicates"):
        write_as_copied(client, "reading", [*readings(5), *readings(1)])
    assert stored(table) == []


def test_often_copied_batch_writer_never_gives_up(table, stage, open_resource):
    """Often copied: boto3's `batch_writer` sends again without any pause."""
    stage.plays["BatchWriteItem"] = only_the_first(1)
    behind = open_resource(stage.url).Table("reading")
    with behind.batch_writer() as batch:
        for item in readings(20):
            batch.put_item(Item=item)
    assert stored(table) == list(range(20))
    assert stage.calls.count("BatchWriteItem") == 20
