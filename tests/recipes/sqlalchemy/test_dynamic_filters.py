"""dynamic_filters: what is asked for, and nothing else."""

from collections.abc import Iterator

import pytest
from sqlalchemy import create_engine, select, text
from sqlalchemy.orm import Session

from recipes.sqlalchemy.dynamic_filters import Base, Product, Search, build_query, find

ROWS = [
    ("mug", "blue", 500),
    ("Mug, 100% clay", "brown", 1250),
    ("glass", None, 0),
    ("bowl_big", "blue", 500),
]


@pytest.fixture
def session(database) -> Iterator[Session]:
    """With four products, numbered from 1."""
    engine = create_engine(database)
    Base.metadata.create_all(engine)
    with Session(engine) as session:
        for number, (name, color, cents) in enumerate(ROWS, 1):
            session.add(Product(id=number, name=name, color=color, cents=cents))
        session.commit()
        yield session
    engine.dispose()


def ids(session, **asked) -> list[int]:
    return [product.id for product in find(session, Search(**asked))]


def test_nothing_asked(session):
    """An empty search finds everything, and has no condition."""
    assert sorted(ids(session)) == [1, 2, 3, 4]
    assert build_query(Search()).whereclause is None


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"contains": "MUG"}, [1, 2]),
        ({"contains": "100%"}, [2]),
        ({"contains": "_"}, [4]),
        ({"contains": "/"}, []),
        ({"contains": ""}, [1, 2, 3, 4]),
        ({"colors": ["blue", "brown"]}, [1, 2, 4]),
        ({"colors": []}, []),
        ({"no_color": True}, [3]),
        ({"no_color": False}, [1, 2, 4]),
        ({"at_most": 500}, [1, 3, 4]),
        ({"at_most": 0}, [3]),
        ({"contains": "mug", "colors": ["blue"], "at_most": 1000}, [1]),
    ],
)
def test_finds(session, asked, found):
    """Each field that is set is a condition: a `%` and a `_` are signs, 0 is a price,
    an empty list of colors matches nothing."""
    assert sorted(ids(session, **asked)) == found


@pytest.mark.parametrize(
    ("sort", "found"),
    [("cheapest", [3, 1, 4, 2]), ("dearest", [2, 1, 4, 3])],
)
def test_sorts(session, sort, found):
    """Rows with the same price come in the order of their numbers, up and down."""
    assert ids(session, sort=sort) == found
    assert str(build_query(Search(sort=sort))).endswith(", product.id")


def test_sorts_by_name(session):
    """By name without being asked; the database knows which letter comes first."""
    found = [product.name for product in find(session, Search())]
    assert found.index("bowl_big") < found.index("glass") < found.index("mug")


def test_unknown_sort(session):
    """A sort order that is not on the list is a ValueError."""
    with pytest.raises(ValueError, match="none of name, cheapest, dearest"):
        find(session, Search(sort="cents; DROP TABLE product"))


def test_limit(session):
    """No more rows than the limit."""
    assert len(find(session, Search(), limit=2)) == 2


@pytest.mark.parametrize("evil", ["' OR '1'='1", "'; DROP TABLE product; --", "\\' --"])
def test_injection(session, evil):
    """Injection strings are searched for, and found nowhere."""
    assert ids(session, contains=evil) == []
    assert ids(session, colors=[evil]) == []
    assert len(ids(session)) == 4


# --8<-- [start:wrong]
def find_as_often_copied(session, name=None, at_most=None, sort="name"):
    query = "SELECT id FROM product WHERE 1 = 1"
    if name:
        query += f" AND name LIKE '%{name}%'"
    if at_most:
        query += f" AND cents <= {at_most}"
    return session.scalars(text(f"{query} ORDER BY {sort}")).all()


# --8<-- [end:wrong]


def test_often_copied_injection(session):
    """Often copied: `' OR '1' LIKE '` finds every row."""
    evil = "nothing' OR '1' LIKE '"
    assert len(find_as_often_copied(session, evil)) == 4


def test_often_copied_sort(session):
    """Often copied: the sort order of a URL may hold a query, which reads other tables
    bit by bit."""
    spy = "(SELECT CASE WHEN max(cents) > 1000 THEN 1 ELSE 2 END FROM product) * -id"
    assert find_as_often_copied(session, sort=spy) == [4, 3, 2, 1]


def test_often_copied_free_of_charge(session):
    """Often copied: `if at_most` takes 0 for nothing, and finds every price."""
    assert len(find_as_often_copied(session, at_most=0)) == 4


def test_often_copied_wildcard(session):
    """Often copied: a user's `_` matches every sign."""
    assert len(find_as_often_copied(session, name="_")) == 4


def test_often_copied_null(session):
    """Often copied: `!=` leaves out the rows without a color."""
    query = select(Product.id).where(Product.color != "blue")
    assert session.scalars(query).all() == [2]
