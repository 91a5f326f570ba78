"""sqlalchemy_dialect: what IBM's dialect sends, and how to make it send that."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from urllib.parse import quote_plus

import ibm_db_dbi
import pytest
import sqlalchemy as sa
from ibm_db_sa.base import DB2Dialect
from sqlalchemy.orm import Session

from recipes.db2.sqlalchemy_dialect import Account, Base, make_engine, withdraw
from tests.recipes.db2.waiting import wait_until_blocked
from tests.recipes.support.drda import Login

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)
LARGE = Decimal("9007199254740993.01")  # no float holds it


# On a server.


@pytest.fixture
def engine(dsn):
    engine = make_engine(dsn)
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()


def open_account(engine, balance, opened=NOON) -> int:
    with Session(engine) as session, session.begin():
        account = Account(owner="Ann", balance=balance, opened=opened)
        session.add(account)
        session.flush()
        return account.id


def balance(engine, account_id):
    with Session(engine) as session:
        return session.get_one(Account, account_id).balance


def test_round_trip(engine):
    """A large amount and an aware time come back as they were."""
    berlin = NOON.astimezone(timezone(timedelta(hours=1)))
    number = open_account(engine, LARGE, berlin)
    with Session(engine) as session:
        account = session.get_one(Account, number)
        assert (account.balance, account.opened) == (LARGE, NOON)


def test_withdraws(engine):
    """The amount is taken to the cent, and committed by the caller."""
    number = open_account(engine, LARGE)
    with Session(engine) as session, session.begin():
        left = withdraw(session, number, Decimal("0.02"))
    assert left == balance(engine, number) == LARGE - Decimal("0.02")


def test_refused(engine):
    """An overdraft and an unknown account are refused, and nothing changes."""
    number = open_account(engine, Decimal(5))
    with Session(engine) as session:
        with pytest.raises(ValueError, match="cannot be taken"):
            withdraw(session, number, Decimal("5.01"))
        with pytest.raises(sa.exc.NoResultFound):
            withdraw(session, -1, Decimal(1))
    assert balance(engine, number) == 5


def test_lock(engine, dsn):
    """While one session withdraws, a second one waits, and then sees what is left."""
    number = open_account(engine, Decimal(100))

    def second() -> Decimal:
        with Session(engine) as session, session.begin():
            return withdraw(session, number, Decimal(30))

    with Session(engine) as session, ThreadPoolExecutor() as threads:
        withdraw(session, number, Decimal(60))
        session.flush()
        waiting = threads.submit(second)
        wait_until_blocked(dsn)
        session.commit()
        assert waiting.result() == 10
    assert balance(engine, number) == 10


def test_metadata(engine):
    """Tables are made in the schema of the connection string, and found again there."""
    Base.metadata.create_all(engine)  # finds them, and makes nothing
    assert sa.inspect(engine).get_table_names() == ["account"]


# Without one: SQLAlchemy and the dialect, with a connection that notes what is sent.


class Connection:
    """The driver's connection to a Db2 that answers every query with the same rows."""

    dbms_name, dbms_ver = "DB2/LINUXX8664", "12.01.0400"

    def __init__(self, *rows, columns=1):
        self.rows, self.sent = list(rows), []
        self.description = [(f"C{n}", ibm_db_dbi.NUMBER) for n in range(columns)]
        self.rowcount, self.last_identity_val = 1, 7

    def cursor(self):
        return self

    def execute(self, statement, values=()):
        self.sent.append((" ".join(statement.split()), values))

    def fetchone(self):
        return self.rows.pop(0) if self.rows else None

    def fetchall(self):
        rows, self.rows = self.rows, []
        return rows

    def get_current_schema(self):
        return "COOK"

    def server_info(self):
        return self.dbms_name, self.dbms_ver

    def get_option(self, key):
        assert key == ibm_db_dbi.SQL_ATTR_TXN_ISOLATION
        return ibm_db_dbi.SQL_TXN_READ_COMMITTED

    def nothing(self, *_):
        pass

    commit = rollback = close = nothing


@pytest.fixture
def noted(monkeypatch):
    """Make an engine as the recipe does, over such a connection."""

    def make(connection, as_the_recipe_does=True):
        monkeypatch.setattr(ibm_db_dbi, "connect", lambda *_: connection)
        if as_the_recipe_does:
            return make_engine("")
        return sa.create_engine("db2+ibm_db://", creator=lambda: connection)

    return make


def test_decimal_is_sent(noted):
    """A Decimal is given to the driver as a Decimal, a time in UTC without a zone."""
    connection = Connection()
    berlin = NOON.astimezone(timezone(timedelta(hours=1)))
    assert open_account(noted(connection), LARGE, berlin) == 7
    _, values = connection.sent[-1]
    assert values == ("Ann", LARGE, NOON.replace(tzinfo=None))
    assert type(values[1]) is Decimal


def test_decimal_is_read(noted):
    """What the driver returns as a Decimal stays one; a time is given its zone."""
    row = (7, "Ann", LARGE, NOON.replace(tzinfo=None))
    with Session(noted(Connection(row, columns=4))) as session:
        account = session.scalars(sa.select(Account)).one()
    assert (account.balance, account.opened) == (LARGE, NOON)


def test_no_time_is_no_time(noted):
    """NULL in a time is None, in both directions."""
    kind = Account.__table__.c.opened.type
    dialect = noted(Connection()).dialect
    assert kind.process_bind_param(None, dialect) is None
    assert kind.process_result_value(None, dialect) is None


def test_time_without_zone_is_refused(noted):
    """A time without a zone is refused before it is sent."""
    connection = Connection()
    with pytest.raises(sa.exc.StatementError, match="no time zone"):
        open_account(noted(connection), LARGE, NOON.replace(tzinfo=None))
    assert connection.sent == []


def test_lock_is_sent(noted):
    """The row is read with a lock that is kept, then updated with a Decimal."""
    row = (7, "Ann", Decimal("10.00"), NOON.replace(tzinfo=None))
    connection = Connection(row, columns=4)
    with Session(noted(connection)) as session, session.begin():
        assert withdraw(session, 7, Decimal("0.01")) == Decimal("9.99")
    (select, _), (update, values) = connection.sent
    assert select.endswith("WHERE account.id = ? WITH RS USE AND KEEP UPDATE LOCKS")
    assert update == "UPDATE account SET balance=? WHERE account.id = ?"
    assert values == (Decimal("9.99"), 7)


@pytest.mark.parametrize("amount", ["0", "-1", "0.005", "NaN", "Infinity"])
def test_amount(amount):
    """Zero, a negative amount, a fraction of a cent, NaN: ValueError before any SQL."""
    with pytest.raises(ValueError, match="cents"):
        withdraw(None, 7, Decimal(amount))


def test_overdraft(noted):
    """More than there is: ValueError, and the balance stays."""
    row = (7, "Ann", Decimal("10.00"), NOON.replace(tzinfo=None))
    connection = Connection(row, columns=4)
    with Session(noted(connection)) as session:
        with pytest.raises(ValueError, match="cannot be taken"):
            withdraw(session, 7, Decimal("10.01"))
        session.commit()
    assert len(connection.sent) == 1


def test_fresh_values(noted):
    """What the session remembers of the row does not count: it is read again."""
    remembered, now = (
        (7, "Ann", Decimal(balance), NOON.replace(tzinfo=None)) for balance in (10, 5)
    )
    connection = Connection(remembered, columns=4)
    with Session(noted(connection)) as session:
        account = session.scalars(sa.select(Account)).one()
        assert account.balance == 10
        connection.rows.append(now)
        with pytest.raises(ValueError, match="from 5"):
            withdraw(session, 7, Decimal(6))


def test_keywords_reach_the_driver(monkeypatch):
    """The connection string reaches the driver whole, behind the limits."""
    seen = []

    def connect(*args):
        seen.append(args)
        return Connection()

    monkeypatch.setattr(ibm_db_dbi, "connect", connect)
    with make_engine("SECURITY=SSL;PWD=x;").connect():
        pass
    ((dsn, *rest),) = seen
    assert dsn == "CONNECTTIMEOUT=5;RECEIVETIMEOUT=60;SECURITY=SSL;PWD=x;"
    assert rest == ["", ""]


def compiled(statement) -> str:
    dialect = sa.create_engine("db2+ibm_db://").dialect
    return " ".join(str(statement.compile(dialect=dialect)).split())


def test_sql_of_the_dialect():
    """The dialect writes an identity column, LIMIT and OFFSET as Db2 has them."""
    table = compiled(sa.schema.CreateTable(Account.__table__))
    assert "id INT NOT NULL GENERATED BY DEFAULT AS IDENTITY (START WITH 1)" in table
    assert "balance DECIMAL(18, 2) NOT NULL" in table
    connection = Connection()
    engine = sa.create_engine("db2+ibm_db://", creator=lambda: connection)
    with engine.connect() as conn:
        conn.execute(sa.select(Account.id).order_by(Account.id).limit(5).offset(10))
    assert connection.sent[-1] == (
        "SELECT account.id FROM account ORDER BY account.id LIMIT 5 OFFSET 10",
        (),
    )


def test_isolation_levels():
    """The dialect takes Db2's names for isolation levels, and no others."""
    engine = sa.create_engine("db2+ibm_db://", creator=Connection)
    with pytest.raises(sa.exc.ArgumentError, match="SERIALIZABLE"):
        engine.connect().execution_options(isolation_level="SERIALIZABLE")


def test_with_for_update_fails():
    """with_for_update() ends in an AttributeError in the dialect."""
    with pytest.raises(AttributeError, match="for_update"):
        compiled(sa.select(Account).with_for_update())


# --8<-- [start:wrong]
def make_engine_as_copied(host, port, user, password):
    return sa.create_engine(
        f"db2+ibm_db://{user}:{quote_plus(password)}@{host}:{port}/SHOP"
        "?Security=SSL&SSLClientHostnameValidation=Basic&ConnectTimeout=10"
    )


# --8<-- [end:wrong]


def test_often_copied_drops_options():
    """Often copied: the check of the host name and the timeout never reach the
    driver."""
    engine = make_engine_as_copied("db.example.com", 50001, "cook", "secret")
    (dsn, *_), _ = engine.dialect.create_connect_args(engine.url)
    assert dsn == (
        "DATABASE=SHOP;HOSTNAME=db.example.com;PROTOCOL=TCPIP;PORT=50001;UID=cook;"
        "PWD=secret;Security=SSL;"
    )


def test_often_copied_cuts_the_password(play):
    """Often copied: a password with a semicolon is cut, without a word, and the first
    part is sent."""
    impostor = play()
    url = make_engine_as_copied("localhost", impostor.port, "cook", "correct;horse").url
    plain = sa.create_engine(url.difference_update_query(["Security"]))
    with pytest.raises(sa.exc.OperationalError, match="SQL30082N"):
        plain.connect()
    assert impostor.logins == [Login("SHOP", "cook", "correct")]


def test_often_copied_money_is_a_float(noted):
    """Often copied: without the line for Decimal, 9007199254740993.01 is sent as the
    float 9007199254740994.0: 99 cents from nowhere."""
    connection = Connection()
    open_account(noted(connection, as_the_recipe_does=False), LARGE)
    _, values = connection.sent[-1]
    assert type(values[1]) is float
    assert values[1] == 9007199254740994.0


def test_often_copied_round_is_injected(monkeypatch):
    """Often copied, on Db2 for z/OS: where the SQL has round(), the dialect writes the
    values into the text, without quotes."""
    monkeypatch.setattr(DB2Dialect, "serverType", "DB2")
    dialect = sa.create_engine("db2+ibm_db://").dialect
    connection = Connection()
    query = "SELECT round(balance, 1) FROM account WHERE owner = ?"
    dialect.do_execute(connection, query, ("'x' OR 1=1",))
    assert connection.sent == [
        ("SELECT round(balance, 1) FROM account WHERE owner = 'x' OR 1=1", ())
    ]
