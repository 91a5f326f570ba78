"""The table that the tests of both ways to load share."""

import pytest

from recipes.mysql.load_rows import connect


def query(url, sql):
    """Run a statement and commit; return its rows."""
    with connect(url) as conn, conn.cursor() as cursor:
        cursor.execute(sql)
        conn.commit()
        return list(cursor.fetchall())


@pytest.fixture
def item_url(mysql):
    """The address of a table of an id, a name of at most 8 characters, a price."""
    query(
        mysql,
        "CREATE TABLE item (id INT PRIMARY KEY, name VARCHAR(8) NOT NULL,"
        " price DECIMAL(6, 2), at DATETIME(6)) CHARACTER SET utf8mb4",
    )
    return mysql
