# /// script
# requires-python = ">=3.11"
# dependencies = ["sqlalchemy>=2.1"]
#
# [tool.cookbook]
# needs = ["database"]
# ///
"""Keep the rows of each tenant apart.

Many customers, one table: one forgotten WHERE shows one customer's rows to another. Let
the session add it to every statement, and refuse those where it cannot.
"""

import os
import sys
from typing import Any

from sqlalchemy import Engine, String, create_engine, event, select
from sqlalchemy.orm import (
    DeclarativeBase,
    Mapped,
    ORMExecuteState,
    Session,
    UOWTransaction,
    mapped_column,
    with_loader_criteria,
)


class Base(DeclarativeBase): ...


# --8<-- [start:tenant]
class Tenanted:
    """A model whose rows belong to a tenant."""

    tenant: Mapped[int] = mapped_column(index=True)


class TenantSession(Session):
    """A session that sees and changes the rows of one tenant alone.

    Raises PermissionError for a statement to which it cannot add the tenant.
    """

    def __init__(self, engine: Engine, tenant: int) -> None:
        super().__init__(engine)
        self.tenant = tenant


@event.listens_for(TenantSession, "do_orm_execute")
def _add_tenant(state: ORMExecuteState) -> None:
    plain = not state.is_orm_statement or state.is_from_statement
    if plain or state.is_insert:
        raise PermissionError("only select, update and delete of models")
    assert isinstance(state.session, TenantSession)
    tenant = state.session.tenant
    state.statement = state.statement.options(
        with_loader_criteria(
            Tenanted, lambda model: model.tenant == tenant, include_aliases=True
        )
    )


@event.listens_for(TenantSession, "before_flush")
def _check_tenant(session: TenantSession, _1: UOWTransaction, _2: Any) -> None:
    for row in (*session.new, *session.dirty, *session.deleted):
        if isinstance(row, Tenanted):
            if row.tenant is None and row in session.new:
                row.tenant = session.tenant
            if row.tenant != session.tenant:
                raise PermissionError("a row of another tenant")


# --8<-- [end:tenant]


# --8<-- [start:model]
class Note(Tenanted, Base):
    __tablename__ = "note"
    id: Mapped[int] = mapped_column(primary_key=True)
    body: Mapped[str] = mapped_column(String(100))


# --8<-- [end:model]

NO_SERVER = (
    "Set DATABASE_URL, for example"
    " postgresql+psycopg://cook:cook@127.0.0.1:15432/cookbook or sqlite:///app.db"
)


def main() -> None:
    url = os.environ.get("DATABASE_URL") or sys.exit(NO_SERVER)
    engine = create_engine(url)
    Base.metadata.create_all(engine)
    for tenant in (1, 2):
        with TenantSession(engine, tenant) as session, session.begin():
            session.add(Note(id=tenant, body=f"of tenant {tenant}"))
    with TenantSession(engine, 1) as session:
        print("tenant 1 reads:", list(session.scalars(select(Note.body))))
        print("note 2 for tenant 1:", session.get(Note, 2))
    engine.dispose()


if __name__ == "__main__":
    main()
