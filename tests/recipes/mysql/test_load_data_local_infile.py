import csv
from functools import partial

import mysql.connector as connector
import pymysql
import pytest

from recipes.mysql import load_data_local_infile as with_pymysql
from recipes.mysql import load_data_local_infile_connector as with_connector
from recipes.mysql.load_data_local_infile import connect
from tests.recipes.mysql.conftest import query
from tests.recipes.support.rogue_mysql import RogueServer

BOTH = pytest.mark.parametrize("driver", [with_pymysql, with_connector])
ERRORS = (pymysql.Error, connector.Error)


@pytest.fixture
def url(item_url):
    return item_url


class Loader:
    """The functions of one driver on one connection."""

    def __init__(self, driver, conn):
        self.conn = conn
        self.csv = partial(driver.load_csv, conn, "item")


@pytest.fixture
def loader(request, url, tmp_path):
    driver = request.param
    more = [tmp_path] if driver is with_connector else []
    with driver.connect(url, *more) as conn:
        yield Loader(driver, conn)


EACH = pytest.mark.parametrize("loader", [with_pymysql, with_connector], indirect=True)


def write(path, text):
    path.write_bytes(text.encode())
    return path


@EACH
def test_csv(url, loader, tmp_path):
    """A CSV file's quotes, commas, line ends in a field and backslashes arrive."""
    names = ["a,b", 'say "x"', "two\nrows", "C:\\new", "Łódź", "NULL", ""]
    with (tmp_path / "item.csv").open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        out.writerow(["id", "name"])
        out.writerows(enumerate(names))
    assert loader.csv(tmp_path / "item.csv") == len(names)
    assert query(url, "SELECT name FROM item ORDER BY id") == [(n,) for n in names]


@EACH
def test_csv_line_ends(url, loader, tmp_path):
    """A file of Windows, with its line ends and a byte order mark, loads the same."""
    path = write(tmp_path / "item.csv", "\ufeffname,id\r\nBath,1\r\nOslo,2\r\n")
    assert loader.csv(path) == 2
    found = query(url, "SELECT id, name FROM item ORDER BY id")
    assert found == [(1, "Bath"), (2, "Oslo")]


@EACH
def test_csv_null(url, loader, tmp_path):
    """An unquoted NULL is NULL."""
    loader.csv(write(tmp_path / "item.csv", 'id,name,price\n1,"NULL",NULL\n'))
    assert query(url, "SELECT name, price FROM item") == [("NULL", None)]


@EACH
@pytest.mark.parametrize(
    "rows",
    [
        pytest.param("2,Rome,x\n", id="not a number"),
        pytest.param("2,far too long,1\n", id="too long"),
        pytest.param("2,Rome,1.005\n", id="would be rounded"),
        pytest.param("2,Rome,123456.00\n", id="out of range"),
        pytest.param("1,Rome,1\n", id="duplicate"),
        pytest.param("2,Rome\n", id="a field is missing"),
        pytest.param("2,Rome,1,1\n", id="a field too many"),
        pytest.param("2,Rome,\n", id="empty is not NULL"),
        pytest.param("2,NULL,1\n", id="NULL where it may not be"),
    ],
)
def test_bad_row_is_refused(url, loader, tmp_path, rows):
    """A row that does not fit, or was there, is an error; then no row is stored."""
    query(url, "INSERT INTO item VALUES (0, 'was here', 1, NULL)")
    path = write(tmp_path / "item.csv", f"id,name,price\n1,Oslo,1.00\n{rows}")
    with pytest.raises(ValueError, match="warnings, the first"):
        loader.csv(path)
    loader.conn.commit()
    assert query(url, "SELECT id FROM item") == [(0,)]


@EACH
def test_not_utf8(url, loader, tmp_path):
    """A file that is not UTF-8 is refused."""
    path = tmp_path / "item.csv"
    path.write_bytes(b"id,name\n1,\xe9\xe9\xe9\n")
    with pytest.raises((ValueError, *ERRORS)):
        loader.csv(path)
    assert query(url, "SELECT id FROM item") == []


@EACH
def test_odd_names(mysql, loader, tmp_path):
    """A column may be called anything."""
    query(mysql, "ALTER TABLE item ADD `a ``b``, 1 %` INT")
    loader.csv(write(tmp_path / "item.csv", 'id,name,"a `b`, 1 %"\n1,x,7\n'))
    assert query(mysql, "SELECT `a ``b``, 1 %` FROM item") == [(7,)]


@EACH
def test_missing_column(url, loader, tmp_path):
    """An error of the server, such as a missing column, reaches the caller."""
    with pytest.raises(ERRORS, match="nowhere"):
        loader.csv(write(tmp_path / "item.csv", "nowhere\n1\n"))


def test_connector_sends_from_one_directory_only(url, tmp_path):
    """The connector sends no file from outside the given directory, and no link."""
    inside, outside = tmp_path / "in", write(tmp_path / "out.csv", "id,name\n1,x\n")
    inside.mkdir()
    (inside / "link.csv").symlink_to(outside)
    for path in (outside, inside / "link.csv"):
        with (
            with_connector.connect(url, inside) as conn,
            pytest.raises(
                connector.Error, match=r"not found in the given|symbolic link"
            ),
        ):
            with_connector.load_csv(conn, "item", path)
    assert query(url, "SELECT id FROM item") == []


# --8<-- [start:wrong]
def load_as_often_copied(conn, path):
    with conn.cursor() as cursor:
        cursor.execute(
            f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE item"
            " FIELDS TERMINATED BY ',' ENCLOSED BY '\"' IGNORE 1 LINES"
            " (id, name, price)"
        )
    conn.commit()


# --8<-- [end:wrong]


def test_often_copied_cuts_and_skips(url, tmp_path):
    """Often copied: rows are skipped, cut, zeroed, without an error."""
    text = 'id,name,price\n1,"a\\new",1\n1,twice,2\n2,far too long,3\n3,Rome,free\n'
    with connect(url) as conn:
        load_as_often_copied(conn, write(tmp_path / "item.csv", text))
    found = query(url, "SELECT id, name, price FROM item")
    assert found == [(1, "a\new", 1), (2, "far too ", 3), (3, "Rome", 0)]


def test_often_copied_keeps_the_carriage_return(url, tmp_path):
    """Often copied: with a file of Windows the last column ends in a `\\r`."""
    query(url, "ALTER TABLE item MODIFY price TEXT")
    with connect(url) as conn:
        load_as_often_copied(conn, write(tmp_path / "item.csv", "a,b,c\r\n1,x,2\r\n"))
    assert query(url, "SELECT price FROM item") == [("2\r",)]


@pytest.fixture
def rogue(tmp_path):
    """A rogue server that wants our secret, which is in the directory to load from."""
    server = RogueServer(write(tmp_path / "secret.txt", "the secret"))
    yield server
    server.close()


def run(conn, sql):
    with conn, conn.cursor() as cursor:
        cursor.execute(sql)


def test_rogue_server_reads_any_file(rogue, tmp_path):
    """With `local_infile=True` a rogue server gets any file, even for a SELECT."""
    run(connect(rogue.url), "SELECT 1")
    rogue.close()
    assert rogue.stolen == b"the secret"


def test_rogue_server_gets_nothing_by_default(rogue):
    """Without the flag PyMySQL sends nothing."""
    options = {"host": "127.0.0.1", "port": rogue.listener.getsockname()[1]}
    with pytest.raises(RuntimeError, match="local_infile option is false"):
        run(pymysql.connect(**options, user="cook", password="cook"), "SELECT 1")
    rogue.close()
    assert b"secret" not in rogue.stolen


@pytest.mark.parametrize(
    "sql", ["SELECT 1", "LOAD DATA LOCAL INFILE '{}' INTO TABLE t"]
)
def test_rogue_server_gets_no_other_file(rogue, tmp_path, sql):
    """The connector sends no file but the one that the statement names."""
    asked_for = write(tmp_path / "item.csv", "1,x\n")
    conn = with_connector.connect(rogue.url, tmp_path)
    cursor = conn.cursor()
    with pytest.raises(connector.InterfaceError, match=r"LOCAL INFILE|not the same"):
        cursor.execute(sql.format(asked_for))
    conn.shutdown()
    rogue.close()
    assert rogue.stolen == b""
