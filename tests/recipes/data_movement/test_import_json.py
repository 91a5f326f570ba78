import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from recipes.data_movement.import_json import TABLE, import_json, moment, money, whole
from tests.recipes.support.memory import MB

TYPES = {"id": whole, "price": money, "at": moment}


@pytest.fixture
def load(conn, tmp_path):
    """Import these lines; return the counts and the rejects."""

    def run(content):
        path, rejects = tmp_path / "in.jsonl", tmp_path / "rejected.jsonl"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        counts = import_json(conn, "event", path, TYPES, rejects)
        return counts, [json.loads(line) for line in rejects.read_text().splitlines()]

    return run


def events(conn, columns="id, price, at"):
    return conn.execute(f"SELECT {columns} FROM event ORDER BY id").fetchall()


def test_values_get_their_types(conn, load):
    """Integers to 64 bits, money to the cent, moments of any zone; null and missing
    are NULL."""
    big = 2**53 + 1
    counts, _ = load(
        f'{{"id": {big}, "price": 12345678.10, "at": "2026-05-01T12:00:00+02:00"}}\n'
        '{"id": 1, "price": null}\n{"id": 2, "price": 3}'
    )
    assert counts == (3, 0)
    assert events(conn) == [
        (1, None, None),
        (2, Decimal("3.00"), None),
        (big, Decimal("12345678.10"), datetime(2026, 5, 1, 10, tzinfo=UTC)),
    ]


def test_document_is_kept(conn, load):
    """The whole document is in jsonb: nested values, keys without a column, every
    digit of a number, emoji in both spellings."""
    load(
        r'{"id": 1, "a": {"b": [1, 0.10000000000000000000001]}, "c": "\ud83d\ude00😀"}'
    )
    query = "document -> 'a' -> 'b' ->> 1, document ->> 'c'"
    assert events(conn, query.replace("ORDER", "")) == [
        ("0.10000000000000000000001", "😀😀")
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"id": 1', "Expecting ',' delimiter: line 1 column 9 (char 8)"),
        ("[1]", "is no object"),
        ('{"id": "1"}', "id: '1' is no integer of 64 bits"),
        ('{"id": true}', "id: True is no integer of 64 bits"),
        ('{"id": 1.0}', "id: Decimal('1.0') is no integer of 64 bits"),
        (
            '{"id": 9223372036854775808}',
            "id: 9223372036854775808 is no integer of 64 bits",
        ),
        ('{"id": 1, "price": 1.005}', "price: Decimal('1.005') is no amount"),
        ('{"id": 1, "price": 100000000}', "price: 100000000 is no amount"),
        ('{"id": 1, "price": "1"}', "price: '1' is no amount"),
        ('{"id": 1, "at": "2026-05-01T12:00"}', "at: '2026-05-01T12:00' is no moment"),
        ('{"id": 1, "at": "today"}', "at: Invalid isoformat string: 'today'"),
        ('{"id": 1, "at": 7}', "at: 7 is no moment"),
        ('{"id": 1, "id": 2}', "has a key twice"),
        ('{"id": 1, "x": NaN}', "NaN is no number to store"),
        ('{"id": 1, "x": 1e999999}', "1e999999 is no number to store"),
        (r'{"id": 1, "x": "\u0000"}', "holds a character that is not valid, or is 0"),
        (r'{"id": 1, "x": "\ud83d"}', "holds a character that is not valid, or is 0"),
        ('{"id": 1, "x": ' + "[" * 99_999, "maximum recursion depth exceeded"),
    ],
    ids=lambda value: value[:30],
)
def test_bad_line_is_rejected_with_its_reason(conn, load, line, reason):
    """Broken JSON, a wrong type, a key twice, NaN, a character that cannot be stored:
    the line goes to the rejects, those around it are loaded."""
    counts, rejects = load(f'{{"id": 101}}\n{line}\n{{"id": 102}}\n')
    assert counts == (2, 1)
    (bad,) = rejects
    assert (bad["line"], bad["text"]) == (2, line)
    assert bad["reason"].startswith(reason)
    assert events(conn, "id") == [(101,), (102,)]


def test_backslashes_are_not_zeros(conn, load):
    """The text \\u0000 with an escaped backslash is a text like any other."""
    assert load(r'{"id": 1, "x": "\\u0000"}')[0] == (1, 0)
    assert events(conn, "id, document ->> 'x'") == [(1, r"\u0000")]


def test_bytes_of_another_encoding(load):
    """A line that is not UTF-8 is rejected, and its bytes can be had back."""
    counts, (bad,) = load(b'{"id": 1}\n{"id": 2, "x": "K\xe4se"}\n')
    assert counts == (1, 1)
    assert b"K\xe4se" in bad["text"].encode("utf-8", "surrogateescape")


def test_lines_and_byte_order_mark(load):
    """A byte order mark, Windows line ends and empty lines do no harm; lines are
    counted as in the file."""
    counts, rejects = load(b'\xef\xbb\xbf{"id": 1}\r\n\r\n{"id": "x"}\r\n{"id": 2}')
    assert counts == (2, 1)
    assert rejects[0]["line"] == 3


def test_no_line_vanishes(conn, load):
    """Of 3,000 lines, every third bad: loaded and rejected together are all of them."""
    counts, rejects = load(
        "".join(
            json.dumps({"id": n if n % 3 else "x", "n": n}) + "\n" for n in range(3000)
        )
    )
    assert counts == (2000, 1000)
    loaded = {n for (n,) in events(conn, "(document -> 'n')::int")}
    assert loaded | {json.loads(bad["text"])["n"] for bad in rejects} == {*range(3000)}


def test_server_refuses_a_row(conn, load):
    """What only the server sees, as a missing NOT NULL, is an error: nothing is
    loaded."""
    with pytest.raises(errors.NotNullViolation):
        load('{"id": 1}\n{"price": 1}\n')
    assert events(conn) == []


def import_many(folder, url, rows):
    path = Path(folder) / "many.jsonl"
    with path.open("w") as file:
        for n in range(rows):
            print(json.dumps({"id": n if n % 2 else "x", "x": "x" * 1000}), file=file)
    with psycopg.connect(url) as conn:
        conn.execute(TABLE)
        counts = import_json(conn, "event", path, TYPES, path.with_suffix(".bad"))
        conn.rollback()
    assert counts == (rows // 2, rows // 2)


def test_memory_is_constant(growth):
    """A file of 20 MB, half of it bad, takes less than 3 MB more than one of 1 MB."""
    assert growth(import_many, 1_000, 20_000) < 3 * MB


# --8<-- [start:wrong]
def import_as_often_copied(conn, path):
    for line in path.open():
        try:
            event = json.loads(line)
            conn.execute(
                "INSERT INTO event (id, price, document) VALUES (%s, %s, %s)",
                (event["id"], event.get("price"), json.dumps(event)),
            )
        except Exception:
            continue  # skip bad lines
    conn.commit()


# --8<-- [end:wrong]


def test_often_copied_loses_everything(conn, tmp_path):
    """Often copied: one value that the server refuses ends the transaction. The lines
    after it fail too, in silence, and the commit rolls back those before."""
    path = tmp_path / "in.jsonl"
    path.write_text('{"id": 1}\n{"id": "x"}\n{"id": 2}\n')
    with path.open() as file:  # closed at once: the copied code leaves that to chance
        import_as_often_copied(conn, type("Opened", (), {"open": lambda _: file})())
    assert events(conn) == []


def test_often_copied_rounds(conn, tmp_path):
    """Often copied: numbers pass through float. Digits of the document are gone, a
    price is rounded, and of a key that is there twice one value."""
    path = tmp_path / "in.jsonl"
    path.write_text('{"id": 1, "id": 2, "price": 1.0049, "n": 9007199254740993.1}\n')
    with path.open() as file:
        import_as_often_copied(conn, type("Opened", (), {"open": lambda _: file})())
    found = events(conn, "id, price, document ->> 'n'")
    assert found == [(2, Decimal("1.00"), "9007199254740994.0")]
