from datetime import date, datetime
from decimal import Decimal

import pytest
import sqlalchemy as sa

from recipes.data_movement.clean_values import (
    CLEAN,
    PROBLEM,
    RAW,
    RULES,
    amount,
    clean_table,
    day,
    phone,
)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("044 123 45 67", "+41441234567"),
        ("+49 (30) 1234-567", "+49301234567"),
        ("0049.30.1234567", "+49301234567"),
        ("44/1234567", "+41441234567"),
    ],
)
def test_phone_becomes_e164(text, number):
    """Spaces, brackets, 00 and a missing country: one form comes out."""
    assert phone(text, "+41") == number


@pytest.mark.parametrize(
    "text",
    [
        "call Ann",
        "12",
        "+1234567890123456",
        "044 1234567 ext 3",
        "+41 (0)44 123 45 67",
        "+0441234567",
    ],
)
def test_phone_is_refused(text):
    """Words, too few or too many digits, an extension: refused, not cut."""
    with pytest.raises(ValueError, match="is no phone number"):
        phone(text, "+41")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1000", "1000.00"),
        ("1,234.50", "1234.50"),
        ("1.5K", "1500.00"),
        ("2m", "2000000.00"),
        ("-0.05", "-0.05"),
        ("1,234,567 K", "1234567000.00"),
        ("0.00001K", "0.01"),
    ],
)
def test_amount_is_exact(text, value):
    """Commas between thousands, K and M, in exact decimals."""
    assert amount(text) == Decimal(value)
    assert str(amount(text)) == value


@pytest.mark.parametrize(
    "text",
    [
        "1.234,50",
        "12,34",
        "1e3",
        "NaN",
        "1.005",
        "0.000001K",
        "5 B",
        "99999999M",
        "\u0661",
    ],
)
def test_amount_is_refused(text):
    """A decimal comma, a comma in the wrong place, half a cent, an unknown letter:
    refused, not guessed."""
    with pytest.raises(ValueError, match=r"is no amount|parts of a cent"):
        amount(text)


def test_day_in_one_of_the_formats():
    """A date is read in the formats that you name."""
    assert day("31.12.2019", "%Y-%m-%d", "%d.%m.%Y") == date(2019, 12, 31)
    assert day("31/12/2019", "%d/%m/%Y", "%m/%d/%Y") == date(2019, 12, 31)
    assert day("05/05/2019", "%d/%m/%Y", "%m/%d/%Y") == date(2019, 5, 5)


def test_day_that_may_be_two():
    """Where two formats fit and disagree, the date is refused, and both are named."""
    with pytest.raises(ValueError, match="is 2019-03-04 or 2019-04-03"):
        day("03/04/2019", "%d/%m/%Y", "%m/%d/%Y")


@pytest.mark.parametrize("text", ["soon", "30.02.2020", "2019-12-31T10:00", "1.1.20"])
def test_day_is_refused(text):
    """No date, a day that does not exist, more than a date: refused."""
    with pytest.raises(ValueError, match="is no date"):
        day(text, "%Y-%m-%d", "%d.%m.%Y")


@pytest.fixture
def engine(postgresql):
    address = sa.make_url(str(postgresql)).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(address)
    with engine.begin() as conn:
        for table in (RAW, CLEAN, PROBLEM):
            table.create(conn)
    yield engine
    engine.dispose()


def fill(engine, *rows):
    names = ("id", "phone", "budget", "since")
    with engine.begin() as conn:
        conn.execute(
            sa.insert(RAW), [dict(zip(names, row, strict=True)) for row in rows]
        )


def run(engine):
    with engine.begin() as conn:
        return clean_table(conn, RAW, CLEAN, PROBLEM, RULES)


def look(engine, table):
    with engine.connect() as conn:
        return [tuple(row) for row in conn.execute(sa.select(table).order_by(*table.c))]


def test_right_rows_and_wrong_rows(engine):
    """A row that is right is in clean, with types. A row with a mistake is not; each
    mistake is reported with its field, value and reason. Empty is NULL."""
    fill(
        engine,
        (1, "044 123 45 67", "1.5K", "31.12.2019"),
        (2, None, "", " "),
        (3, "call Ann", "7", "soon"),
    )
    assert run(engine) == (2, 1)
    assert look(engine, CLEAN) == [
        (1, "+41441234567", Decimal("1500.00"), date(2019, 12, 31)),
        (2, None, None, None),
    ]
    assert look(engine, PROBLEM) == [
        (3, "phone", "call Ann", "'call Ann' is no phone number"),
        (3, "since", "soon", "'soon' is no date"),
    ]


def test_no_row_vanishes(engine):
    """Of 2,500 rows, over several batches, each is in clean or has a problem, and the
    raw rows stay as they are."""
    fill(
        engine,
        *((n, "044 123 45 67", str(n) if n % 3 else "x", "") for n in range(2500)),
    )
    before = look(engine, RAW)
    assert run(engine) == (1666, 834)
    right = {row[0] for row in look(engine, CLEAN)}
    wrong = {row[0] for row in look(engine, PROBLEM)}
    assert right | wrong == set(range(2500))
    assert not right & wrong
    assert look(engine, RAW) == before


def test_can_run_again(engine):
    """Mend a raw value and run again: nothing is there twice, the problem is gone."""
    fill(engine, (1, "", "1.234,50", ""), (2, "", "5", ""))
    assert run(engine) == (1, 1)
    with engine.begin() as conn:
        conn.execute(sa.update(RAW).where(RAW.c.id == 1).values(budget="1234.50"))
    assert run(engine) == (2, 0)
    assert [row[2] for row in look(engine, CLEAN)] == [Decimal("1234.50"), 5]
    assert look(engine, PROBLEM) == []


def test_all_or_nothing(engine):
    """An error in a rule that is no ValueError reaches the caller, and what was there
    before is there again."""
    fill(engine, (1, "", "5", ""))
    run(engine)

    def broken(_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), engine.begin() as conn:
        clean_table(conn, RAW, CLEAN, PROBLEM, {"budget": broken})
    assert len(look(engine, CLEAN)) == 1


# --8<-- [start:wrong]
def amount_as_often_copied(text):
    try:
        return float(text.replace(".", "").replace(",", ".").replace("K", "000"))
    except ValueError:
        return 0


def day_as_often_copied(text):
    for shape in ("%Y-%m-%d", "%m/%d/%Y", "%d/%m/%Y"):
        try:
            return datetime.strptime(text, shape).date()
        except ValueError:
            continue
    return date.today()


# --8<-- [end:wrong]


def test_often_copied_amounts():
    """Often copied: 1.5K becomes 15000, 1,234.50 becomes 1.2345, and what does not
    parse is worth 0."""
    assert amount_as_often_copied("1.5K") == 15000
    assert amount_as_often_copied("1,234.50") == 1.2345
    assert amount_as_often_copied("12 CHF") == 0


def test_often_copied_dates():
    """Often copied: the fourth of March may be the third of April, and what does not
    parse is today."""
    assert day_as_often_copied("04/03/2019") == date(2019, 4, 3)
    before = date.today()
    assert before <= day_as_often_copied("31.12.2019") <= date.today()
