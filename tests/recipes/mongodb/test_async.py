import asyncio
import gc
import importlib
import time
from contextlib import aclosing

import pymongo
import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.errors import (
    ConnectionFailure,
    DuplicateKeyError,
    OperationFailure,
    PyMongoError,
)
from pymongo.monitoring import CommandListener

# `async` is a keyword, so the file cannot be imported by a statement.
recipe = importlib.import_module("recipes.mongodb.async")
connect, paid, pay_all = recipe.connect, recipe.paid, recipe.pay_all


class Commands(CommandListener):
    """Counts the updates that are under way at the same time, and all commands."""

    def __init__(self):
        self.names, self.now, self.most = [], 0, 0

    def started(self, event):
        self.names.append(event.command_name)
        self.now += event.command_name == "update"
        self.most = max(self.most, self.now)

    def succeeded(self, event):
        self.now -= event.command_name == "update"

    def failed(self, event):
        self.now -= event.command_name == "update"


def with_orders(address, test, count=20, **options):
    """Run the test with a client and a collection of orders that are new."""

    async def run():
        async with AsyncMongoClient(address, timeoutMS=10_000, **options) as client:
            orders = client.get_default_database()["order"]
            await orders.insert_many(
                [{"_id": n, "status": "new"} for n in range(count)]
            )
            await test(client, orders)

    asyncio.run(run())


# pymongo's monitor, when it is cancelled while it connects, forgets its socket.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")


@pytest.fixture
def leftovers():
    """Collects such sockets here, and not in a test of another file."""
    yield
    gc.collect()


async def ticks_while(task):
    """How often the event loop comes round while the task runs, 100 times a second."""
    ticks = 0
    while not task.done():
        await asyncio.sleep(0.01)
        ticks += 1
    return ticks


def test_pays_each_once(mongodb):
    """Every order is paid once; those that were paid before are not counted."""

    async def test(_, orders):
        assert await pay_all(orders, range(10)) == 10
        assert await pay_all(orders, range(20)) == 10
        assert await orders.count_documents({"status": "paid"}) == 20

    with_orders(mongodb, test)


def test_no_more_than_so_many_at_once(mongodb):
    """No more requests are under way at the same time than were allowed."""
    commands = Commands()

    async def test(_, orders):
        await pay_all(orders, range(20), at_once=3)

    with_orders(mongodb, test, event_listeners=[commands])
    assert commands.most == 3


@pytest.mark.parametrize("at_once", [1, 3, 50])
def test_any_number_of_workers(mongodb, at_once):
    """One worker, a few, or more than there are orders: all are paid."""

    async def test(_, orders):
        assert await pay_all(orders, range(20), at_once=at_once) == 20

    with_orders(mongodb, test)


def test_an_error_cancels_the_rest(mongodb):
    """An error reaches the caller, and the other workers stop."""

    class Bad(Exception): ...

    def numbers():
        yield from (0, 1)
        raise Bad
        yield 2

    async def test(_, orders):
        with pytest.raises(ExceptionGroup) as raised:
            await pay_all(orders, numbers(), at_once=2)
        assert raised.group_contains(Bad)
        assert await orders.count_documents({"status": "paid"}) <= 2

    with_orders(mongodb, test)


def test_streams_in_batches(mongodb):
    """All paid orders come, in order, over several batches."""

    async def test(_, orders):
        await pay_all(orders, range(250), at_once=20)
        assert [number async for number in paid(orders)] == list(range(250))

    with_orders(mongodb, test, count=250)


def test_cursor_is_closed(mongodb):
    """Whoever stops early leaves no cursor open on the server."""
    commands = Commands()

    async def test(_, orders):
        await orders.update_many({}, {"$set": {"status": "paid"}})
        async with aclosing(paid(orders)) as numbers:
            assert await anext(numbers) == 0
        assert commands.names[-1] == "killCursors"

    with_orders(mongodb, test, count=150, event_listeners=[commands])


def test_loop_stays_free(mongodb, fault_proxy, leftovers):
    """While the server is silent, the event loop does other work."""
    proxy = fault_proxy(mongodb)

    async def run():
        async def find():
            with pymongo.timeout(0.4):
                return await client.get_default_database()["x"].find_one()

        client = await connect(proxy.url)
        async with client:
            proxy.black_hole()
            task = asyncio.create_task(find())
            assert await ticks_while(task) > 10
            assert task.exception().timeout
            proxy.black_hole(False)

    asyncio.run(run())


def test_cancelled(mongodb, fault_proxy, leftovers):
    """A request that is cancelled ends at once, and the client can be used again."""
    proxy = fault_proxy(mongodb)

    async def run():
        client = await connect(proxy.url, timeout=30)
        async with client:
            orders = client.get_default_database()["order"]
            proxy.black_hole()
            start = time.monotonic()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await orders.find_one()
            assert time.monotonic() - start < 5
            proxy.black_hole(False)
            await orders.insert_one({"_id": 1})
            assert await orders.find_one() == {"_id": 1}

    asyncio.run(run())


def test_nobody_there(mongodb, fault_proxy, leftovers):
    """Nobody answers: ConnectionFailure in time, from `connect`."""
    proxy = fault_proxy(mongodb)
    proxy.refuse()
    start = time.monotonic()
    with pytest.raises(ConnectionFailure):
        asyncio.run(connect(proxy.url, timeout=0.3))
    assert time.monotonic() - start < 3


# --8<-- [start:wrong]
async def find_as_often_copied(client):  # a MongoClient, which is for threads
    return client["shop"]["order"].find_one()


async def add_as_often_copied(orders, order):
    orders.insert_one(order)  # not awaited


# --8<-- [end:wrong]


def test_often_copied_stops_everything(mongodb, fault_proxy):
    """Often copied: with the client for threads, the event loop stands still until the
    server answers."""
    proxy = fault_proxy(mongodb)

    async def run(client):
        proxy.black_hole()
        task = asyncio.create_task(find_as_often_copied(client))
        ticks = await ticks_while(task)
        assert isinstance(task.exception(), PyMongoError)
        proxy.black_hole(False)
        return ticks

    with MongoClient(proxy.url, timeoutMS=1000) as client:
        client.admin.command("ping")
        assert asyncio.run(run(client)) <= 2


def test_often_copied_stores_nothing(mongodb):
    """Often copied: without `await` nothing is stored. Python only warns."""

    async def add_and_collect(orders):
        await add_as_often_copied(orders, {"_id": 77})
        gc.collect()

    async def test(_, orders):
        with pytest.warns(RuntimeWarning, match="never awaited"):
            await add_and_collect(orders)
        assert await orders.find_one({"_id": 77}) is None

    with_orders(mongodb, test)


def test_often_copied_second_loop(mongodb):
    """Often copied: a client that is shared by several `asyncio.run` is an error in
    the second."""
    client = AsyncMongoClient(mongodb)

    async def ping():
        return await client.admin.command("ping")

    with asyncio.Runner() as first, asyncio.Runner() as second:
        assert first.run(ping())["ok"] == 1
        with pytest.raises(RuntimeError, match="different event loop"):
            second.run(ping())
        first.run(client.close())


def test_duplicate(mongodb):
    """Errors are those of the client for threads, such as DuplicateKeyError."""

    async def test(_, orders):
        with pytest.raises(DuplicateKeyError) as raised:
            await orders.insert_one({"_id": 0})
        assert isinstance(raised.value, OperationFailure)

    with_orders(mongodb, test)
