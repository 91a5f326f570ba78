# /// script
# requires-python = ">=3.11"
# dependencies = ["argon2-cffi>=25", "sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Hash passwords.

A stolen table must not be a list of passwords. Argon2 makes each guess expensive, with
a salt for each user, and its parameters can grow with your machines.
"""

import os
import secrets
import sys

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError
from sqlalchemy import Engine, String, create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column


class Base(DeclarativeBase): ...


# --8<-- [start:hash]
class User(Base):
    __tablename__ = "app_user"
    id: Mapped[int] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(String(254), unique=True)
    password_hash: Mapped[str] = mapped_column(String(255))


HASHER = PasswordHasher()  # the library's defaults: 64 MiB for each hash at work
NOBODY = HASHER.hash(secrets.token_hex())


def register(engine: Engine, email: str, password: str) -> int:
    """Store a new user; return the id.

    Raises ValueError (password), IntegrityError (the address is taken).
    """
    if not 8 <= len(password) <= 200:  # no endless work for a password without end
        raise ValueError("a password has 8 to 200 characters")
    user = User(email=email, password_hash=HASHER.hash(password))
    with Session(engine) as session, session.begin():
        session.add(user)
        session.flush()
        return user.id


def sign_in(engine: Engine, email: str, password: str) -> int | None:
    """The user's id, or None where the address or the password is wrong."""
    if len(password) > 200:
        return None
    with Session(engine) as session:
        user = session.scalar(select(User).filter_by(email=email))
    # For an unknown address the same work: or the time would tell who is registered.
    stored = user.password_hash if user else NOBODY
    try:
        HASHER.verify(stored, password)  # no transaction is open meanwhile
    except VerifyMismatchError:
        return None
    assert user  # nobody knows the password of NOBODY
    if HASHER.check_needs_rehash(stored):  # the parameters have grown since
        user.password_hash = HASHER.hash(password)
        with Session(engine, expire_on_commit=False) as session, session.begin():
            session.add(user)
    return user.id


# --8<-- [end:hash]

NO_SERVER = (
    "Set DATABASE_URL, for example"
    " postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"
)


def main() -> None:
    url = os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER)
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    print("registered:", register(engine, "ann@example.com", "correct horse"))
    for word in ("correct horse", "wrong horse"):
        print(f"{word}:", sign_in(engine, "ann@example.com", word))
    print("unknown:", sign_in(engine, "bob@example.com", "correct horse"))
    with Session(engine) as session:
        print(session.scalars(select(User.password_hash)).one()[:30])
    engine.dispose()


if __name__ == "__main__":
    main()
