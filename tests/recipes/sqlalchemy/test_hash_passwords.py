import hashlib

import pytest
from argon2 import PasswordHasher
from sqlalchemy import create_engine, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from recipes.sqlalchemy import hash_passwords
from recipes.sqlalchemy.hash_passwords import Base, User, register, sign_in

ANN = ("ann@example.com", "correct horse")


@pytest.fixture
def quick(monkeypatch):
    """A hasher that costs little, and a nobody to match: most tests need no more."""
    hasher = PasswordHasher(time_cost=1, memory_cost=64)
    monkeypatch.setattr(hash_passwords, "HASHER", hasher)
    monkeypatch.setattr(hash_passwords, "NOBODY", hasher.hash("nobody knows"))


@pytest.fixture
def engine(quick, unhurried):
    return unhurried


@pytest.fixture
def unhurried(database):
    """One user: Ann."""
    engine = create_engine(database)
    Base.metadata.create_all(engine)
    register(engine, *ANN)
    yield engine
    engine.dispose()


def stored(engine):
    with Session(engine) as session:
        return list(session.scalars(select(User.password_hash).order_by(User.id)))


def test_right_password(engine):
    """The right password signs in."""
    assert sign_in(engine, *ANN) == 1


@pytest.mark.parametrize(
    ("email", "password"),
    [
        ("ann@example.com", "Correct horse"),
        ("ann@example.com", "correct horse "),
        ("ann@example.com", ""),
        ("ann@example.com", "x" * 201),
        ("bob@example.com", "correct horse"),
    ],
)
def test_wrong(engine, email, password):
    """A wrong password, an empty one, an endless one, an unknown address: None."""
    assert sign_in(engine, email, password) is None


def test_what_is_stored(unhurried):
    """Stored is an Argon2id hash with its parameters, never the password."""
    (value,) = stored(unhurried)
    assert value.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert "horse" not in value


def test_salt(engine):
    """Two users with the same password have different hashes."""
    register(engine, "bob@example.com", ANN[1])
    assert len(set(stored(engine))) == 2


def test_same_work_for_unknown(unhurried, monkeypatch):
    """For an unknown address the same work is done: one hash is verified."""
    verified = []

    class Watched(PasswordHasher):
        def hash(self, password):
            raise AssertionError("one hash more than for a user who exists")

        def verify(self, value, password):
            verified.append(value[:30])
            return super().verify(value, password)

    monkeypatch.setattr(hash_passwords, "HASHER", Watched())
    assert sign_in(unhurried, "bob@example.com", "wrong horse") is None
    assert sign_in(unhurried, "ann@example.com", "wrong horse") is None
    assert len(verified) == 2
    assert len(set(verified)) == 1  # the parameters too


def test_rehash(engine, monkeypatch):
    """When the parameters grow, signing in stores a new hash, which still signs in."""
    before = stored(engine)
    assert sign_in(engine, *ANN) == 1
    assert stored(engine) == before
    monkeypatch.setattr(hash_passwords, "HASHER", PasswordHasher(4, 64))
    assert sign_in(engine, "ann@example.com", "wrong horse") is None
    assert stored(engine) == before
    assert sign_in(engine, *ANN) == 1
    assert "t=4" in stored(engine)[0]
    assert sign_in(engine, *ANN) == 1


@pytest.mark.parametrize("password", ["short", "x" * 201])
def test_refused(engine, password):
    """A password that is too short or too long is refused, and nobody is stored."""
    with pytest.raises(ValueError, match="8 to 200"):
        register(engine, "bob@example.com", password)
    assert len(stored(engine)) == 1


def test_taken(engine):
    """An address that is taken is refused; the first password still counts."""
    with pytest.raises(IntegrityError):
        register(engine, "ann@example.com", "another horse")
    assert sign_in(engine, *ANN) == 1


# --8<-- [start:wrong]
def register_as_often_copied(session, email, password):
    digest = hashlib.sha256(password.encode()).hexdigest()
    session.add(User(email=email, password_hash=digest))
    session.commit()


# --8<-- [end:wrong]


def test_often_copied_is_guessed(engine):
    """Often copied: two users with one password have one hash, and a list of words,
    hashed once, finds it for all."""
    with Session(engine) as session:
        for name in ("bob", "cy"):
            register_as_often_copied(session, f"{name}@example.com", "sunshine")
    _, bob, cy = stored(engine)
    assert bob == cy
    words = {hashlib.sha256(word).hexdigest(): word for word in (b"love", b"sunshine")}
    assert words[bob] == b"sunshine"
