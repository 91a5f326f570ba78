import psycopg
import pytest
from psycopg import errors

from recipes.postgresql import load_csv as recipe
from recipes.postgresql.load_csv import load_csv


@pytest.fixture
def conn(postgresql):
    with psycopg.connect(postgresql) as conn:
        conn.execute("CREATE TABLE article (id int, name text, price numeric(8, 2))")
        conn.commit()
        yield conn


@pytest.fixture
def csv_file(tmp_path):
    """Write a file of these bytes."""

    def write(content: str | bytes):
        path = tmp_path / "articles.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def articles(conn):
    return conn.execute(
        "SELECT id, name, price::text FROM article ORDER BY id"
    ).fetchall()


def test_header_names_the_columns(conn, csv_file):
    """The columns may stand in any order; one that is missing gets its default."""
    conn.execute("ALTER TABLE article ALTER price SET DEFAULT 9.50")
    conn.commit()
    assert load_csv(conn, "article", csv_file("name,id\nTea,1\nPot,2\n")) == 2
    assert articles(conn) == [(1, "Tea", "9.50"), (2, "Pot", "9.50")]


@pytest.mark.parametrize(
    ("field", "arrives"),
    [
        ('"a, b"', "a, b"),
        ('"say ""hi"""', 'say "hi"'),
        ('"two\nlines"', "two\nlines"),
        ("Käse 😀", "Käse 😀"),
        (r"C:\new", r"C:\new"),
        ("", None),
        ('""', ""),
        ("NULL", "NULL"),
    ],
)
def test_fields_arrive_unchanged(conn, csv_file, field, arrives):
    """Commas, quotes, line ends, backslashes inside a field; NULL is not empty text."""
    load_csv(conn, "article", csv_file(f"id,name\n1,{field}\n"))
    assert articles(conn) == [(1, arrives, None)]


@pytest.mark.parametrize(
    "content",
    [b"\xef\xbb\xbfid,name\n1,Tea\n", b"id,name\r\n1,Tea\r\n", b'"id","name"\n1,Tea'],
    ids=["byte order mark", "Windows line ends", "no end of the last line"],
)
def test_files_as_they_come(conn, csv_file, content):
    """A byte order mark, Windows line ends, a last line without an end: all load."""
    load_csv(conn, "article", csv_file(content))
    assert articles(conn) == [(1, "Tea", None)]


def test_encoding_is_that_of_the_file(postgresql, conn, csv_file):
    """The file is read as UTF-8 whatever encoding the connection has."""
    with psycopg.connect(postgresql, client_encoding="latin1") as other:
        load_csv(other, "article", csv_file("id,name\n1,Käse\n"))
    assert articles(conn) == [(1, "Käse", None)]


def test_fields_cross_the_ends_of_blocks(conn, csv_file, monkeypatch):
    """Rows and letters that the end of a block cuts in two arrive whole."""
    monkeypatch.setattr(recipe, "BLOCK", 7)
    rows = [(n, f"Käse\n{n}") for n in range(100)]
    content = "id,name\n" + "".join(f'{n},"{name}"\n' for n, name in rows)
    assert load_csv(conn, "article", csv_file(content)) == 100
    assert [row[:2] for row in articles(conn)] == rows


def test_bad_line_loads_nothing_and_is_named(conn, csv_file):
    """A bad line: nothing is loaded, the error names its number, column and value."""
    path = csv_file("id,name,price\n1,Tea,3.20\n2,Pot,a lot\n")
    with pytest.raises(errors.InvalidTextRepresentation) as caught:
        load_csv(conn, "article", path)
    assert caught.value.diag.context == ('COPY article, line 3, column price: "a lot"')
    assert articles(conn) == []


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"id,name\n1\n", errors.BadCopyFileFormat),
        (b"id,name\n1,Tea,3\n", errors.BadCopyFileFormat),
        (b'id,name\n1,"Tea\n', errors.BadCopyFileFormat),
        (b"id,name\n1,K\xe4se\n", errors.CharacterNotInRepertoire),
        (b"id,colour\n1,red\n", errors.UndefinedColumn),
        (b"", errors.SyntaxError),
    ],
    ids=["too short", "too long", "open quote", "latin-1", "unknown column", "empty"],
)
def test_bad_file_is_refused(conn, csv_file, content, error):
    """Too few or many fields, an open quote, other encodings, an unknown column, an
    empty file: an error, and the connection stays usable."""
    with pytest.raises(error):
        load_csv(conn, "article", csv_file(content))
    assert articles(conn) == []


def test_names_are_quoted(conn, csv_file):
    """A hostile table or column name is only a name that does not exist."""
    with pytest.raises(errors.UndefinedTable):
        load_csv(conn, "article FROM PROGRAM 'echo 1' --", csv_file("id\n1\n"))
    with pytest.raises(errors.UndefinedColumn):
        load_csv(conn, "article", csv_file("id) FROM PROGRAM 'echo 1' --\n1\n"))


def test_commits_by_itself(conn, csv_file, postgresql):
    """Outside a transaction of yours the load commits by itself."""
    load_csv(conn, "article", csv_file("id\n1\n"))
    with psycopg.connect(postgresql) as other:
        assert articles(other) == [(1, None, None)]


# --8<-- [start:wrong]
def load_csv_as_often_copied(conn, table, path):
    with conn.cursor() as cur, path.open() as file:
        cur.copy_expert(f"COPY {table} FROM STDIN WITH CSV HEADER", file)
    conn.commit()


def load_csv_as_often_ported(conn, table, path):
    query = f"COPY {table} FROM STDIN WITH CSV HEADER"
    with conn.cursor() as cur, cur.copy(query) as copy:
        copy.write(path.read_text())
    conn.commit()


# --8<-- [end:wrong]


def test_often_copied_does_not_exist(conn, csv_file):
    """Often copied: psycopg 3 has no copy_expert."""
    with pytest.raises(AttributeError, match="copy_expert"):
        load_csv_as_often_copied(conn, "article", csv_file("id\n1\n"))


def test_often_copied_mixes_up_columns(conn, csv_file):
    """Often copied: HEADER skips the first line, and columns in another order swap."""
    conn.execute("CREATE TABLE person (first_name text, last_name text)")
    load_csv_as_often_ported(
        conn, "person", csv_file("last_name,first_name\nCurie,Marie\n")
    )
    row = conn.execute("SELECT first_name, last_name FROM person").fetchone()
    assert row == ("Curie", "Marie")


def test_often_copied_runs_what_the_name_says(conn, csv_file):
    """Often copied: a hostile table name runs a program on the server."""
    name = "article (id) FROM PROGRAM 'echo 4242' --"
    with pytest.raises(psycopg.ProgrammingError, match="copy"):
        load_csv_as_often_ported(conn, name, csv_file(""))
    assert articles(conn) == [(4242, None, None)]
