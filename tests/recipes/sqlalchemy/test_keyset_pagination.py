"""keyset_pagination: each row once, whatever others write."""

import base64
import json
from collections.abc import Iterator
from itertools import chain

import pytest
from sqlalchemy import create_engine, event, select
from sqlalchemy.orm import Session

from recipes.sqlalchemy.keyset_pagination import Article, Base, read_page


@pytest.fixture
def session(database) -> Iterator[Session]:
    """With ten articles; three have the same score."""
    engine = create_engine(database)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for number, score in enumerate([1, 9, 5, 5, 5, 3, 8, -2, 7, 0], 1):
            session.add(Article(id=number, title=f"article {number}", score=score))
        session.commit()
        yield session
    engine.dispose()


BEST_FIRST = [2, 7, 9, 5, 4, 3, 6, 1, 10, 8]


def ids(articles) -> list[int]:
    return [article.id for article in articles]


def all_pages(session, size) -> list[list[int]]:
    pages, token = [], None
    while True:
        page = read_page(session, size, token)
        pages.append(ids(page.articles))
        token = page.following
        if token is None:
            return pages


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 9, 10, 11])
def test_each_row_once(session, size):
    """Pages of any size give each article once, in order, also where scores are equal
    at the end of a page."""
    assert list(chain(*all_pages(session, size))) == BEST_FIRST


def test_no_empty_page_at_the_end(session):
    """Ten articles in pages of five are two pages, and no third one."""
    assert [len(page) for page in all_pages(session, 5)] == [5, 5]


def test_nothing_there(session):
    """No articles: one empty page, and no next one."""
    for article in session.scalars(select(Article)):
        session.delete(article)
    assert read_page(session) == ([], None)


def test_new_row_shifts_nothing(session):
    """An article that is added at the top between two pages repeats none."""
    first = read_page(session, 3)
    session.add(Article(id=11, title="new", score=99))
    session.flush()
    second = read_page(session, 3, first.following)
    assert ids(first.articles) + ids(second.articles) == BEST_FIRST[:6]


def test_deleted_row_skips_nothing(session):
    """An article that is deleted between two pages hides none, even if it was the
    last one of the page."""
    first = read_page(session, 3)
    session.delete(first.articles[-1])
    session.delete(first.articles[0])
    session.flush()
    second = read_page(session, 3, first.following)
    assert ids(second.articles) == BEST_FIRST[3:6]


def encoded(value) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode()


BAD = [[1], ["1", 2], 7, [1, 2.5], [1, 2**63], {}]


@pytest.mark.parametrize("token", ["", "x", "é", "W1tb" * 9999, *map(encoded, BAD)])
def test_bad_token(session, token):
    """A token that is not two numbers is a ValueError."""
    with pytest.raises(ValueError, match="no token of a page"):
        read_page(session, 3, token)


@pytest.mark.parametrize("size", [0, -1, 101])
def test_bad_size(session, size):
    """A page of no rows, or of more than a hundred, is a ValueError."""
    with pytest.raises(ValueError, match="1 to 100"):
        read_page(session, size)


def test_index(session):
    """On SQLite, the next page is found by the index, without a sort."""
    if session.get_bind().dialect.name != "sqlite":
        return
    sent = []
    event.listen(
        session.get_bind(),
        "before_cursor_execute",
        lambda *args: sent.append(args[2:4]),
    )
    read_page(session, 3, read_page(session, 3).following)
    statement, parameters = sent[-1]
    raw = session.connection().connection.driver_connection
    plan = raw.execute(f"EXPLAIN QUERY PLAN {statement}", parameters).fetchall()
    assert "SEARCH article USING INDEX ix_article_score_id (score<?)" in str(plan)
    assert "TEMP B-TREE" not in str(plan)


# --8<-- [start:wrong]
def read_page_as_often_copied(session, number, size):
    query = select(Article).order_by(Article.score.desc())
    return session.scalars(query.offset(number * size).limit(size)).all()


# --8<-- [end:wrong]


def test_often_copied_repeats(session):
    """Often copied: after a new article at the top, the next page begins with the last
    row of this one."""
    first = read_page_as_often_copied(session, 0, 3)
    session.add(Article(id=11, title="new", score=99))
    session.flush()
    second = read_page_as_often_copied(session, 1, 3)
    assert second[0] is first[-1]


def test_often_copied_skips(session):
    """Often copied: after a row was deleted, the next page leaves one out."""
    first = read_page_as_often_copied(session, 0, 2)
    assert ids(first) == [2, 7]
    session.delete(first[0])
    session.flush()
    assert 9 not in ids(read_page_as_often_copied(session, 1, 2))
