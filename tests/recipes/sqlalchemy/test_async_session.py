import asyncio
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import DBAPIError, MissingGreenlet, StatementError
from sqlalchemy.ext.asyncio import AsyncSession

from recipes.sqlalchemy.async_session import (
    Author,
    Base,
    add_author,
    make_engine,
    make_sessions,
    titles_by_author,
)

DRIVERS = pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])


@asynccontextmanager
async def library(url, driver="asyncpg"):
    """An engine on a database with the tables."""
    engine = make_engine(url, driver)
    async with engine.begin() as conn:
        await conn.run_sync(Base.metadata.create_all)
    try:
        yield engine
    finally:
        await engine.dispose()


@DRIVERS
def test_stores_and_reads(postgresql, driver):
    """Authors and books are stored and read back, through asyncpg and psycopg."""

    async def run():
        async with library(postgresql, driver) as engine:
            sessions = make_sessions(engine)
            await add_author(sessions, "Ann", ["One", "Two"])
            await add_author(sessions, "Bob", [])
            return await titles_by_author(sessions)

    assert asyncio.run(run()) == {"Ann": ["One", "Two"], "Bob": []}


@DRIVERS
def test_usable_after_commit(postgresql, driver):
    """After the commit the object still has its attributes, the new id too."""

    async def run():
        async with library(postgresql, driver) as engine:
            ann = await add_author(make_sessions(engine), "Ann", ["One"])
            return ann.id, ann.name, [book.title for book in ann.books]

    assert asyncio.run(run()) == (1, "Ann", ["One"])


def test_two_statements(postgresql):
    """However many authors there are, they are read with two statements."""

    async def run():
        async with library(postgresql) as engine:
            sessions = make_sessions(engine)
            for name in "abcde":
                await add_author(sessions, name, ["One"])
            seen = []
            event.listen(
                engine.sync_engine,
                "before_cursor_execute",
                lambda conn, cursor, statement, *_: seen.append(statement),
            )
            await titles_by_author(sessions)
            return seen

    assert len(asyncio.run(run())) == 2


@DRIVERS
def test_error_rolls_back(postgresql, driver):
    """An error in the block reaches the caller, and nothing is stored."""

    async def run():
        async with library(postgresql, driver) as engine:
            sessions = make_sessions(engine)
            with pytest.raises(DBAPIError):
                await add_author(sessions, None, ["One"])
            return await titles_by_author(sessions)

    assert asyncio.run(run()) == {}


def test_tasks_at_the_same_time(postgresql):
    """Ten tasks, each with a session of its own, work at the same time."""

    async def run():
        async with library(postgresql) as engine:
            sessions = make_sessions(engine)
            tasks = (add_author(sessions, str(n), ["One"]) for n in range(10))
            await asyncio.gather(*tasks)
            return await titles_by_author(sessions)

    assert asyncio.run(run()).keys() == set("0123456789")


@DRIVERS
def test_cancelled(postgresql, driver):
    """A task that is cancelled leaves nothing stored and no connection in use."""

    async def run():
        async with library(postgresql, driver) as engine:
            sessions = make_sessions(engine)
            asleep = asyncio.Event()

            async def long():
                async with sessions.begin() as session:
                    session.add(Author(name="Ann"))
                    await session.flush()
                    asleep.set()
                    await session.execute(text("SELECT pg_sleep(60)"))

            task = asyncio.create_task(long())
            await asleep.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return engine.pool.checkedout(), await titles_by_author(sessions)

    assert asyncio.run(run()) == (0, {})


# --8<-- [start:wrong]
async def titles_as_often_copied(session):
    authors = await session.scalars(select(Author))
    return {author.name: [book.title for book in author.books] for author in authors}


async def add_as_often_copied(engine, name):
    async with AsyncSession(engine) as session:
        author = Author(name=name)
        session.add(author)
        await session.commit()
        return author.name


# --8<-- [end:wrong]


@DRIVERS
def test_often_copied_lazy(postgresql, driver):
    """Often copied: a relationship that was not loaded raises MissingGreenlet."""

    async def run():
        async with library(postgresql, driver) as engine:
            await add_author(make_sessions(engine), "Ann", ["One"])
            async with AsyncSession(engine) as session:
                await titles_as_often_copied(session)

    # psycopg's comes inside of a StatementError.
    with pytest.raises((MissingGreenlet, StatementError), match="greenlet_spawn"):
        asyncio.run(run())


def test_often_copied_after_commit(postgresql):
    """Often copied: after the commit every attribute has expired: reading one raises
    MissingGreenlet, though the row is stored."""

    async def run():
        async with library(postgresql) as engine:
            with pytest.raises(MissingGreenlet):
                await add_as_often_copied(engine, "Ann")
            return await titles_by_author(make_sessions(engine))

    assert asyncio.run(run()) == {"Ann": []}


def test_often_copied_one_session(postgresql):
    """Often copied: one session for two tasks; the rollback of one takes away what the
    other has done, and its commit says nothing."""

    async def run():
        async with library(postgresql) as engine, AsyncSession(engine) as session:
            ready = asyncio.Event()

            async def store():
                session.add(Author(name="Ann"))
                await session.flush()
                ready.set()
                await other
                await session.commit()

            async def fail():
                await ready.wait()
                await session.rollback()

            other = asyncio.create_task(fail())
            await asyncio.create_task(store())
            return await titles_by_author(make_sessions(engine))

    assert asyncio.run(run()) == {}
