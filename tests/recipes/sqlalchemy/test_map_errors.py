import pymysql
import pytest
from sqlalchemy import create_engine, event, func, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError
from sqlalchemy.orm import Session

from recipes.sqlalchemy.map_errors import (
    Base,
    BrokenReferenceError,
    CheckError,
    DuplicateError,
    Member,
    MissingValueError,
    RefusedError,
    Team,
    add_member,
    known_errors,
)


@pytest.fixture
def engine(database):
    """One team, number 1, and one member, Ann."""
    engine = create_engine(database)
    if engine.dialect.name == "sqlite":
        on = "PRAGMA foreign_keys = ON"
        event.listen(engine, "connect", lambda conn, _: conn.execute(on).close())
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        session.add(Team(id=1))
        session.flush()
        session.add(Member(email="ann@example.com", age=30, team_id=1))
    yield engine
    engine.dispose()


def members(engine):
    with Session(engine) as session:
        return session.scalar(select(func.count()).select_from(Member))


def test_returns_the_id(engine):
    """The new member's id is returned, and the member is stored."""
    number = add_member(engine, "bob@example.com", 40, 1)
    with Session(engine) as session:
        assert session.get_one(Member, number).email == "bob@example.com"


@pytest.mark.parametrize(
    ("member", "error"),
    [
        pytest.param(("ann@example.com", 31, 1), DuplicateError, id="duplicate"),
        pytest.param(("bob@example.com", 40, 9), BrokenReferenceError, id="reference"),
        pytest.param(("bob@example.com", -1, 1), CheckError, id="check"),
        pytest.param(("bob@example.com", None, 1), MissingValueError, id="null"),
    ],
)
def test_names_what_was_refused(engine, member, error):
    """A duplicate, an unknown team, a value that a check refuses, a NULL: each has an
    error of its own, the same on every engine, and nothing is stored."""
    with pytest.raises(RefusedError) as caught:
        add_member(engine, *member)
    assert type(caught.value) is error
    assert members(engine) == 1


def test_primary_key(engine):
    """A primary key that is taken is a duplicate too."""
    with pytest.raises(DuplicateError), known_errors(), engine.begin() as conn:
        conn.execute(insert(Team).values(id=1))


def test_referred_to(engine):
    """A row that others refer to cannot be deleted: that is a broken reference."""
    with pytest.raises(BrokenReferenceError), known_errors(), engine.begin() as conn:
        conn.execute(text("DELETE FROM team"))


def test_left_out(engine):
    """A column that was left out and has no default is a missing value."""
    with pytest.raises(MissingValueError), known_errors(), engine.begin() as conn:
        conn.execute(text("INSERT INTO member (age, team_id) VALUES (1, 1)"))


def test_keeps_the_cause(engine):
    """The error of SQLAlchemy, with that of the driver, is the cause."""
    with pytest.raises(DuplicateError) as caught:
        add_member(engine, "ann@example.com", 31, 1)
    assert isinstance(caught.value.__cause__, IntegrityError)
    assert caught.value.__cause__.orig is not None


def test_other_errors_pass(engine):
    """Any other error, such as an unknown table, reaches the caller as it is."""
    with pytest.raises(DBAPIError), known_errors(), engine.begin() as conn:
        conn.execute(text("SELECT * FROM nowhere"))


def test_at_commit(postgresql):
    """A constraint that is checked at COMMIT is named as well."""
    engine = create_engine(postgresql.replace("postgresql:", "postgresql+psycopg:", 1))
    with engine.begin() as conn:
        conn.execute(
            text("CREATE TABLE seat (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        )
    with pytest.raises(DuplicateError), known_errors(), engine.begin() as conn:
        conn.execute(text("INSERT INTO seat VALUES (1), (1)"))
    engine.dispose()


def test_check_of_mysql():
    """PyMySQL's error for a check that MySQL refused, an OperationalError, is known."""
    orig = pymysql.err.OperationalError(3819, "Check constraint 'age' is violated.")
    with pytest.raises(CheckError), known_errors():
        raise OperationalError("INSERT ...", {}, orig)


# --8<-- [start:wrong]
def add_as_often_copied(session, member):
    try:
        session.add(member)
        number = member.id
        session.commit()
    except IntegrityError as error:
        if "Duplicate entry" in str(error):
            raise ValueError("this e-mail address is taken") from error
        raise RuntimeError("database constraint violation") from error
    return number


# --8<-- [end:wrong]


def test_often_copied_knows_one_engine(engine):
    """Often copied: only MySQL and MariaDB say "Duplicate entry"; on the others a
    duplicate is an internal error."""
    expected = ValueError if engine.dialect.name == "mysql" else RuntimeError
    with Session(engine) as session, pytest.raises(expected):
        add_as_often_copied(session, Member(email="ann@example.com", age=1, team_id=1))


def test_often_copied_reads_the_text(engine):
    """Often copied: a member named "Duplicate entry", in an unknown team, is said to be
    taken, because the text holds the values too."""
    member = Member(email="Duplicate entry", age=1, team_id=9)
    with Session(engine) as session, pytest.raises(ValueError, match="taken"):
        add_as_often_copied(session, member)


def test_often_copied_returns_none(engine):
    """Often copied: the id is read before the flush, and is None."""
    with Session(engine) as session:
        member = Member(email="bob@example.com", age=1, team_id=1)
        assert add_as_often_copied(session, member) is None
