"""What the tests of the chapter share."""

import psycopg
import pytest

from tests.recipes.support.memory import memory_growth


@pytest.fixture
def conn(request, postgresql):
    """A connection to a database with the table that the test's module names."""
    with psycopg.connect(postgresql) as conn:
        conn.execute(request.module.TABLE)
        conn.commit()
        yield conn


@pytest.fixture
def growth(postgresql, tmp_path):
    """By how many bytes the peak rises from few rows to many, in a function that is
    given a folder, the address, and the number of rows."""

    def measure(function, few, many):
        calls = ((str(tmp_path), str(postgresql), rows) for rows in (few, many))
        return memory_growth(function, *calls)

    return measure
