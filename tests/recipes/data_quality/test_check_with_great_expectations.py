import great_expectations as gx
import psycopg
import pytest
import sqlalchemy as sa
from great_expectations import expectations as gxe
from great_expectations.datasource.fluent import interfaces

from recipes.data_quality.check_with_great_expectations import ADDRESS, CUSTOMER, check

# One way for all databases is what this recipe is about.
pytestmark = pytest.mark.filterwarnings("ignore:You are using a generic SQLDatasource")


@pytest.fixture
def customers(database):
    """Add rows (id, email, age) to the table of customers, and return its address."""
    engine = sa.create_engine(database)
    with engine.begin() as conn:
        table = "CREATE TABLE customer (id int, email varchar(100), age int)"
        conn.execute(sa.text(table))

    def add(*rows):
        insert = sa.text("INSERT INTO customer VALUES (:id, :email, :age)")
        with engine.begin() as conn:
            for row in rows:
                conn.execute(insert, dict(zip(("id", "email", "age"), row)))
        engine.dispose()
        return database

    yield add
    engine.dispose()


GOOD = (1, "ann@example.com", 30)


def ends(outcomes):
    return [one.status for one in outcomes]


def test_good_rows(customers):
    """Good rows pass every expectation."""
    outcomes = check(customers(GOOD, (2, "bob@example.org", 0)), "customer", CUSTOMER)
    assert ends(outcomes) == ["pass"] * 5


@pytest.mark.parametrize(
    ("row", "failed", "examples"),
    [
        pytest.param((1, "bob@example.com", 5), [1], [1, 1], id="key-twice"),
        pytest.param((2, None, 5), [2], [None], id="null"),
        pytest.param((2, "a@x", 5), [3], ["a@x"], id="no-dot"),
        pytest.param((2, "a b@example.com", 5), [3], ["a b@example.com"], id="space"),
        pytest.param((2, "a@b@example.com", 5), [3], ["a@b@example.com"], id="two-at"),
        pytest.param((2, "bob@example.com", 151), [4], [151], id="too-old"),
        pytest.param((2, "bob@example.com", -1), [4], [-1], id="negative"),
    ],
)
def test_bad_row(customers, row, failed, examples):
    """A row that breaks one expectation fails that one, with the count of bad rows and
    examples of their values."""
    outcomes = check(customers(GOOD, row), "customer", CUSTOMER)
    bad = [index for index, one in enumerate(outcomes) if one.status == "fail"]
    assert bad == failed
    assert outcomes[bad[0]].examples == examples
    assert outcomes[bad[0]].bad == len(examples)


def test_cannot_be_checked(customers):
    """A column that does not exist is an error, not a failure, and never a pass; the
    others are checked."""
    rules = [
        gxe.ExpectColumnValuesToNotBeNull(column="nowhere"),
        gxe.ExpectColumnMaxToBeBetween(column="nowhere", max_value=9),
        gxe.ExpectColumnValuesToBeUnique(column="id"),
    ]
    assert ends(check(customers(GOOD), "customer", rules)) == ["error", "error", "pass"]


def test_of_the_whole_column(customers):
    """One of the whole column, such as its maximum, fails without a count of rows."""
    rules = [gxe.ExpectColumnMaxToBeBetween(column="age", max_value=20)]
    (outcome,) = check(customers(GOOD), "customer", rules)
    assert outcome.status == "fail"
    assert outcome.bad == 0


def test_empty_table(customers):
    """An empty table passes everything but the count of rows."""
    outcomes = check(customers(), "customer", CUSTOMER)
    assert ends(outcomes) == ["fail", "pass", "pass", "pass", "pass"]


def test_null_is_skipped(customers):
    """NULL passes the pattern and the range: only "not null" sees it."""
    rules = CUSTOMER[3:]
    outcomes = check(customers((1, None, None)), "customer", rules)
    assert ends(outcomes) == ["pass", "pass"]


def test_no_table(customers):
    """A table that does not exist is an error that reaches the caller."""
    with pytest.raises(interfaces.TestConnectionError):
        check(customers(), "nowhere", CUSTOMER)


def test_dollar_in_the_password(postgresql):
    """A dollar sign in the password is no variable to fill in."""
    role = "cook_" + postgresql.rpartition("/")[2][-12:]
    with psycopg.connect(postgresql, autocommit=True) as conn:
        conn.execute("CREATE TABLE customer (id int, email text, age int)")
        conn.execute("GRANT SELECT ON customer TO public")
        conn.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'a$HOME'")
        try:
            url = sa.make_url(postgresql).set(
                drivername="postgresql+psycopg", username=role, password="a$HOME"
            )
            text = url.render_as_string(hide_password=False).replace("%24", "$")
            assert "$HOME" in text
            assert check(text, "customer", CUSTOMER[:1])[0].status == "fail"
        finally:
            conn.execute(f"DROP OWNED BY {role}")
            conn.execute(f"DROP ROLE {role}")


# --8<-- [start:wrong]
def check_as_often_copied(frame):
    df = gx.from_pandas(frame)
    df.expect_column_values_to_match_regex("email", r".+@.+")
    return df.validate()["success"]


# --8<-- [end:wrong]


def test_often_copied_is_gone():
    """Often copied: `from_pandas` is not there any more."""
    with pytest.raises(AttributeError, match="from_pandas"):
        check_as_often_copied(None)


def test_often_copied_pattern(customers):
    """Often copied: the pattern takes "a b@x", and two addresses in one."""
    url = customers((1, "a b@x", 30), (2, "ann@example.com, bob@example.com", 30))
    rules = [
        gxe.ExpectColumnValuesToMatchRegex(column="email", regex=regex)
        for regex in (".+@.+", ADDRESS)
    ]
    assert ends(check(url, "customer", rules)) == ["pass", "fail"]
