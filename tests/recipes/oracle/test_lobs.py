"""lobs: whole and piece by piece, to the last byte."""

import io
import tracemalloc

import oracledb
import pytest

from recipes.oracle.lobs import SCHEMA, load, load_stream, save, save_stream


@pytest.fixture
def archive(conn):
    """A connection to a schema with an empty table of documents."""
    with conn.cursor() as cursor:
        cursor.execute(SCHEMA)
    return conn


class Trickle(io.RawIOBase):
    """A source that gives fewer bytes than it is asked for, as a socket does."""

    def __init__(self, data: bytes) -> None:
        self.data = io.BytesIO(data)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self.data.read(min(size, 1000))


@pytest.mark.parametrize("length", [1, 4001, 32_767, 32_768, 200_000])
def test_whole(archive, length):
    """Text beyond ASCII and bytes of any length come back as they were."""
    text, body = "ü" * length, b"\x00" * length
    save(archive, "letter", text, body)
    assert load(archive, "letter") == (text, body)


def test_nothing_is_null(archive):
    """An empty text and no bytes come back as None: Oracle keeps them as NULL."""
    save(archive, "empty", "", b"")
    assert load(archive, "empty") == (None, None)


def test_unknown_name(archive):
    """A document that is not there is a KeyError."""
    with pytest.raises(KeyError, match="nothing"):
        load(archive, "nothing")
    with pytest.raises(KeyError, match="nothing"):
        load_stream(archive, "nothing", io.BytesIO())


def test_name_is_taken(archive):
    """A second document of one name is an IntegrityError, and the first stays."""
    save(archive, "letter", "first", b"1")
    with pytest.raises(oracledb.IntegrityError):
        save(archive, "letter", "second", b"2")
    assert load(archive, "letter") == ("first", b"1")


@pytest.mark.parametrize("length", [0, 1, 1_040_895, 1_040_896, 1_040_897, 3_000_000])
def test_pieces(archive, length):
    """A stream of any length comes back as it was: none, and around the piece's end."""
    data = (b"0123456789abcdef" * (length // 16 + 1))[:length]
    assert save_stream(archive, "film", io.BytesIO(data)) == length
    copy = io.BytesIO()
    assert load_stream(archive, "film", copy) == length
    assert copy.getvalue() == data


def test_source_that_trickles(archive):
    """A source that gives a little at a time, as a socket does, is read to its end."""
    data = bytes(range(256)) * 40
    assert save_stream(archive, "film", Trickle(data)) == len(data)
    assert load(archive, "film") == (None, data)


def test_undone(archive):
    """A stream that fails half-way leaves nothing after the rollback."""

    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            if not data:
                raise ZeroDivisionError
            return data

    with pytest.raises(ZeroDivisionError):
        save_stream(archive, "film", Failing(b"x" * 10))
    archive.rollback()
    with pytest.raises(KeyError):
        load(archive, "film")


def test_constant_memory(archive):
    """Sixteen megabytes come out through a buffer of a few."""
    size = 16 * 1024 * 1024
    save_stream(archive, "film", io.BytesIO(bytes(size)))

    class Nowhere(io.BytesIO):
        def write(self, data) -> int:
            return len(data)

    tracemalloc.start()
    try:
        assert load_stream(archive, "film", Nowhere()) == size
        assert tracemalloc.get_traced_memory()[1] < size / 2
    finally:
        tracemalloc.stop()


# --8<-- [start:wrong]
def save_stream_as_copied(conn, name, source):
    with conn.cursor() as cursor:
        place = cursor.var(oracledb.DB_TYPE_BLOB)
        cursor.execute(
            "INSERT INTO document (name, body) VALUES (:1, EMPTY_BLOB())"
            " RETURNING body INTO :2",
            [name, place],
        )
        (blob,) = place.getvalue()
        offset, chunk = 1, 65536
        while True:
            data = source.read(chunk)
            if data:
                blob.write(data, offset)
            if len(data) < chunk:
                break
            offset += len(data)


# --8<-- [end:wrong]


def test_often_copied_cuts_the_stream(archive):
    """Often copied: a source that gives less than it was asked for is taken for one
    that has ended. Of 10 240 bytes, 1000 are stored, and there is no error."""
    save_stream_as_copied(archive, "film", Trickle(bytes(10_240)))
    assert len(load(archive, "film")[1]) == 1000


# Without a server.


def test_a_socket_trickles():
    """The source of the tests does what a socket does: less than it was asked for."""
    source = Trickle(bytes(2500))
    assert [len(source.read(65536)) for _ in range(4)] == [1000, 1000, 500, 0]
