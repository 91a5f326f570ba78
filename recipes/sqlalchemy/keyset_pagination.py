# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Page through rows that change meanwhile.

OFFSET counts rows: a row that is added shifts every page, and deep pages are slow.
Remember the last row of a page instead, and ask for what comes after it.
"""

import base64
import json
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy import Index, String, create_engine, or_, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase):
    pass


# --8<-- [start:page]
class Article(Base):
    __tablename__ = "article"
    __table_args__ = (Index("ix_article_score_id", "score", "id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    title: Mapped[str] = mapped_column(String(100))
    score: Mapped[int]


class Page(NamedTuple):
    articles: Sequence[Article]
    following: str | None  # the token of the next page; None after the last one


def read_page(session: Session, size: int = 20, token: str | None = None) -> Page:
    """The best articles first, `size` at a time. Raises ValueError (token, size)."""
    if not 1 <= size <= 100:
        raise ValueError(f"a page has 1 to 100 articles, not {size}")
    query = select(Article).order_by(Article.score.desc(), Article.id.desc())
    if token is not None:
        score, number = _decode(token)
        # The first condition is for the index, the second one for equal scores.
        query = query.where(
            Article.score <= score, or_(Article.score < score, Article.id < number)
        )
    found = session.scalars(query.limit(size + 1)).all()  # one more: is there any?
    articles = found[:size]
    if len(found) <= size:
        return Page(articles, None)
    return Page(articles, _encode(articles[-1]))


def _encode(last: Article) -> str:
    return base64.urlsafe_b64encode(json.dumps([last.score, last.id]).encode()).decode()


def _decode(token: str) -> tuple[int, int]:
    """It comes from outside: anything but two numbers is refused."""
    try:
        score, number = json.loads(base64.urlsafe_b64decode(token[:100]))
    except (ValueError, TypeError):
        raise ValueError(f"no token of a page: {token[:40]!r}") from None
    for value in (score, number):
        if type(value) is not int or abs(value) >= 2**63:
            raise ValueError(f"no token of a page: {token[:40]!r}")
    return score, number


# --8<-- [end:page]

NO_SERVER = (
    "Set DATABASE_URL, for example postgresql+psycopg://cook:cook@127.0.0.1:15432"
    "/cookbook or sqlite:///app.db"
)


def main() -> None:
    engine = create_engine(os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER))
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        for n in range(1, 8):
            session.add(Article(id=n, title=f"article {n}", score=n % 3))
        session.flush()
        token = None
        while True:
            page = read_page(session, 3, token)
            print([(article.score, article.id) for article in page.articles])
            token = page.following
            if token is None:
                break
    engine.dispose()


if __name__ == "__main__":
    main()
