# /// script
# requires-python = ">=3.11"
# dependencies = ["asyncpg>=0.30", "sqlalchemy[asyncio]>=2.1"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Use the ORM with asyncio.

The session waits for the database without blocking the event loop. Attributes must not:
load what you need in the query, or SQLAlchemy raises MissingGreenlet.
"""

import asyncio
import os
import sys

from sqlalchemy import ForeignKey, make_url, select
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_sessionmaker,
    create_async_engine,
)
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    mapped_column,
    relationship,
    selectinload,
)


class Base(DeclarativeBase): ...


class Author(Base):
    __tablename__ = "author"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    books: Mapped[list["Book"]] = relationship(order_by="Book.id")


class Book(Base):
    __tablename__ = "book"
    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str]
    author_id: Mapped[int] = mapped_column(ForeignKey("author.id"))


# --8<-- [start:engine]
def make_engine(url: str, driver: str = "asyncpg") -> AsyncEngine:
    """An engine for the address; await its dispose() in the end."""
    return create_async_engine(make_url(url).set(drivername=f"postgresql+{driver}"))


def make_sessions(engine: AsyncEngine) -> async_sessionmaker[AsyncSession]:
    """Where each task gets a session of its own."""
    return async_sessionmaker(engine, expire_on_commit=False)


# --8<-- [end:engine]


# --8<-- [start:use]
Sessions = async_sessionmaker[AsyncSession]


async def add_author(sessions: Sessions, name: str, titles: list[str]) -> Author:
    """Store the author with the books; the object can be used after the commit."""
    author = Author(name=name, books=[Book(title=title) for title in titles])
    async with asyncio.timeout(5), sessions.begin() as session:
        session.add(author)
    return author


async def titles_by_author(sessions: Sessions) -> dict[str, list[str]]:
    """The titles of each author's books, both in the order they came."""
    query = select(Author).options(selectinload(Author.books)).order_by(Author.id)
    async with asyncio.timeout(5), sessions() as session:
        authors = await session.scalars(query)
        return {one.name: [book.title for book in one.books] for one in authors}


# --8<-- [end:use]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


async def show(url: str) -> None:
    engine = make_engine(url)
    async with engine.begin() as conn:
        await conn.run_sync(Base.metadata.create_all)
    sessions = make_sessions(engine)
    ann = await add_author(sessions, "Ann", ["One", "Two"])
    print("stored:", ann.name, [book.title for book in ann.books])
    await add_author(sessions, "Bob", [])
    print(await titles_by_author(sessions))
    await engine.dispose()


def main() -> None:
    asyncio.run(show(os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)))


if __name__ == "__main__":
    main()
