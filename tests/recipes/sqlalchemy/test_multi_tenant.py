import pytest
from sqlalchemy import create_engine, delete, func, insert, select, text, update
from sqlalchemy.orm import Session, aliased

from recipes.sqlalchemy.multi_tenant import Base, Note, TenantSession


@pytest.fixture
def engine(database):
    """Tenant 1 has notes 1 and 2, tenant 2 has note 3."""
    engine = create_engine(database)
    Base.metadata.create_all(engine)
    with Session(engine) as session, session.begin():
        for number, tenant in ((1, 1), (2, 1), (3, 2)):
            session.add(Note(id=number, tenant=tenant, body=f"note {number}"))
    yield engine
    engine.dispose()


def notes(engine):
    """All notes of all tenants: number, tenant, body."""
    with Session(engine) as session:
        query = select(Note.id, Note.tenant, Note.body).order_by(Note.id)
        return [tuple(row) for row in session.execute(query)]


OTHER = aliased(Note)
QUERIES = {
    "objects": select(Note.id),
    "alias": select(OTHER.id),
    "count": select(func.count()).select_from(Note),
    "subquery": select(select(Note).subquery().c.id),
    "exists": select(Note.id).where(select(OTHER).where(OTHER.id == 3).exists()),
    "join": select(Note.id).join(OTHER, OTHER.id >= Note.id).distinct(),
    "union": select(Note.id).union(select(Note.id)),
}


@pytest.mark.parametrize(
    ("name", "one", "two"),
    [
        ("objects", [1, 2], [3]),
        ("alias", [1, 2], [3]),
        ("count", [2], [1]),
        ("subquery", [1, 2], [3]),
        ("exists", [], [3]),
        ("join", [1, 2], [3]),
        ("union", [1, 2], [3]),
    ],
)
def test_reads_its_own(engine, name, one, two):
    """Each tenant reads its own rows alone: plainly, through an alias, a subquery,
    EXISTS, a join, a UNION, and when they are counted."""
    for tenant, expected in ((1, one), (2, two), (1, one)):
        with TenantSession(engine, tenant) as session:
            assert sorted(session.scalars(QUERIES[name])) == expected


def test_get(engine):
    """`get` by primary key finds no row of another tenant."""
    with TenantSession(engine, 1) as session:
        assert session.get(Note, 3) is None
        assert session.get_one(Note, 1).body == "note 1"


def test_refresh(engine):
    """An object of one's own can be read again after a commit."""
    with TenantSession(engine, 1) as session:
        note = session.get_one(Note, 1)
        session.commit()
        assert note.body == "note 1"


def test_update_and_delete(engine):
    """UPDATE and DELETE without a WHERE leave the rows of the others alone."""
    with TenantSession(engine, 1) as session, session.begin():
        session.execute(update(Note).values(body="mine"))
    assert notes(engine) == [(1, 1, "mine"), (2, 1, "mine"), (3, 2, "note 3")]
    with TenantSession(engine, 1) as session, session.begin():
        session.execute(delete(Note))
    assert notes(engine) == [(3, 2, "note 3")]


def test_new_row(engine):
    """A new row gets the tenant of the session."""
    with TenantSession(engine, 2) as session, session.begin():
        session.add(Note(id=4, body="new"))
    assert notes(engine)[-1] == (4, 2, "new")


def test_new_row_of_another(engine):
    """A new row for another tenant is refused."""
    with TenantSession(engine, 1) as session:
        session.add(Note(tenant=2, body="planted"))
        with pytest.raises(PermissionError):
            session.commit()
    assert len(notes(engine)) == 3


@pytest.mark.parametrize("tenant", [2, None])
def test_moving_a_row(engine, tenant):
    """A row cannot be moved to another tenant, nor to none."""
    with TenantSession(engine, 1) as session:
        session.get_one(Note, 1).body = "kept"
        note = session.get_one(Note, 1)
        note.tenant = tenant
        with pytest.raises(PermissionError):
            session.commit()
    assert notes(engine)[0] == (1, 1, "note 1")


def test_deleting_a_foreign_object(engine):
    """An object of another tenant that got into the session is not deleted."""
    with Session(engine, expire_on_commit=False) as session:
        foreign = session.get_one(Note, 3)
    with TenantSession(engine, 1) as session:
        session.delete(foreign)
        with pytest.raises(PermissionError):
            session.commit()
    assert len(notes(engine)) == 3


@pytest.mark.parametrize(
    "statement",
    [
        text("SELECT * FROM note"),
        select(Note).from_statement(text("SELECT * FROM note")),
        select(Note.__table__),
        insert(Note).values(id=4, tenant=2, body="planted"),
        update(Note.__table__).values(body="gone"),
    ],
    ids=["text", "from-text", "table", "insert", "table-update"],
)
def test_what_it_cannot_filter(engine, statement):
    """Statements to which it cannot add the tenant are refused: SQL text (that of
    `from_statement` too), plain tables, bulk inserts."""
    with TenantSession(engine, 1) as session, pytest.raises(PermissionError):
        session.execute(statement)
    assert len(notes(engine)) == 3


# --8<-- [start:wrong]
class NotesAsOftenCopied:
    def __init__(self, session, tenant):
        self.session = session
        self.tenant = tenant

    def list(self):
        query = select(Note).where(Note.tenant == self.tenant)
        return self.session.scalars(query).all()

    def get(self, number):
        return self.session.get(Note, number)


# --8<-- [end:wrong]


def test_often_copied_forgets_one(engine):
    """Often copied: `list` filters, `get` does not: tenant 1 reads a note of 2."""
    with Session(engine) as session:
        mine = NotesAsOftenCopied(session, 1)
        assert [note.id for note in mine.list()] == [1, 2]
        assert mine.get(3).tenant == 2
