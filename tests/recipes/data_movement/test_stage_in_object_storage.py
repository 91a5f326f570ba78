import threading
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from urllib.parse import urlsplit, urlunsplit
from urllib.request import Request, urlopen

import psycopg
import pytest
from botocore.exceptions import BotoCoreError, ClientError
from botocore.response import StreamingBody

from recipes.data_movement import stage_in_object_storage as recipe
from recipes.data_movement.stage_in_object_storage import CONFIG, load, unload
from tests.recipes.support.s3 import (
    MIB,
    answer,
    connected,
    everything,
    fill,
    left,
    make_bucket,
    on,
    things,
)

KEY = "a/things.csv"


@pytest.fixture
def client(s3):
    with connected(s3, CONFIG) as client:
        yield client


@pytest.fixture
def bucket(client, s3):
    return make_bucket(client, s3)


@pytest.fixture
def conn(postgresql):
    with things(postgresql) as conn:
        yield conn


@pytest.fixture
def small_parts(monkeypatch):
    """MiniStack takes parts of any size."""
    monkeypatch.setattr(recipe, "PART", 64 * 1024)


def test_there_and_back(conn, client, bucket, small_parts):
    """What comes back is what went out, in any session's date style: NULL and the empty
    string, quotes and line ends, exact numbers, moments to the microsecond."""
    conn.execute("SET DateStyle = 'SQL, DMY'")
    conn.execute("SET TimeZone = 'Asia/Tokyo'")
    conn.execute(
        "INSERT INTO thing VALUES (1, 0.10, '2026-02-03 04:05:06.789012Z', NULL),"
        " (2, 12345678901234567890.123456789, 'infinity', ''),"
        r" (3, 'NaN', NULL, E'a,\"b\"\r\n\\.\nä😀')"
    )
    fill(conn, 1_000)
    assert unload(conn, client, bucket, KEY, "thing") == 1_003
    conn.execute("SET DateStyle = 'ISO, MDY'")
    assert load(conn, client, bucket, KEY, "thing_copy") == 1_003
    for one, other in (("thing", "thing_copy"), ("thing_copy", "thing")):
        only = f"SELECT {one}::text FROM {one} EXCEPT ALL SELECT x::text FROM {other} x"
        assert conn.execute(only).fetchall() == []
    assert left(client, bucket) == ([KEY], 0)


def test_empty_table(conn, client, bucket):
    """A table without rows comes back without rows."""
    assert unload(conn, client, bucket, KEY, "thing") == 0
    assert load(conn, client, bucket, KEY, "thing_copy") == 0


def test_constant_memory(conn, client, bucket, monkeypatch):
    """A table of 40 MB goes out and comes back in the memory of a few parts, of 5 MiB
    each."""
    monkeypatch.setattr(recipe, "PART", 5 * MIB)
    fill(conn, 40_000)
    tracemalloc.start()
    try:
        unload(conn, client, bucket, KEY, "thing")
        load(conn, client, bucket, KEY, "thing_copy")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert client.head_object(Bucket=bucket, Key=KEY)["ContentLength"] > 40_000_000
    assert peak < 20 * MIB
    assert conn.execute("SELECT count(*) FROM thing_copy").fetchone() == (40_000,)


def test_parts_are_large_enough(conn, client, bucket, monkeypatch):
    """Each part but the last has at least the size that S3 asks for."""
    assert recipe.PART >= 5 * MIB
    monkeypatch.setattr(recipe, "PART", 5 * MIB)
    sizes = []
    client.meta.events.register(
        "provide-client-params.s3.UploadPart",
        lambda params, **_: sizes.append(len(params["Body"])),
    )
    fill(conn, 12_000)
    unload(conn, client, bucket, KEY, "thing")
    assert len(sizes) == 3
    assert all(5 * MIB <= size < 6 * MIB for size in sizes[:-1])


def test_failing_part(conn, client, bucket, small_parts):
    """A part that S3 refuses ends the upload: the error is raised, no part is left,
    and an older object of that key is as it was."""
    client.put_object(Bucket=bucket, Key=KEY, Body=b"old")
    fill(conn, 1_000)
    on(client, "before-send.s3.UploadPart", answer(403, "AccessDenied"), nth=3)
    with pytest.raises(ClientError, match="AccessDenied"):
        unload(conn, client, bucket, KEY, "thing")
    assert left(client, bucket) == ([KEY], 0)
    assert client.get_object(Bucket=bucket, Key=KEY)["Body"].read() == b"old"
    assert conn.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_part_is_sent_again(conn, client, bucket, small_parts):
    """A part that S3 was too busy for is sent again."""
    fill(conn, 1_000)
    on(client, "before-send.s3.UploadPart", answer(503, "SlowDown"), nth=2)
    assert unload(conn, client, bucket, KEY, "thing") == 1_000
    assert load(conn, client, bucket, KEY, "thing_copy") == 1_000


def test_damaged_part_is_refused(conn, client, bucket, small_parts):
    """S3 refuses a part whose content is not what its checksum says."""

    def damage(request, **_):
        request.body = b"#" + bytes(request.body)[1:]

    fill(conn, 1_000)
    client.meta.events.register("before-send.s3.UploadPart", damage)
    with pytest.raises(ClientError):
        unload(conn, client, bucket, KEY, "thing")
    assert left(client, bucket) == ([], 0)


def test_aborted_copy_out(conn, client, bucket, postgresql):
    """When PostgreSQL ends the session in the middle of COPY, nothing is left in S3."""
    fill(conn, 40_000)
    with psycopg.connect(postgresql, autocommit=True) as worker:
        pid = worker.info.backend_pid

        def kill(**_):
            conn.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))

        on(client, "before-call.s3.UploadPart", kill)
        with pytest.raises(psycopg.OperationalError):
            unload(worker, client, bucket, KEY, "thing")
    assert left(client, bucket) == ([], 0)


def test_abort_that_fails(conn, client, bucket, small_parts):
    """When the upload cannot be aborted either, the first error comes with a note."""
    fill(conn, 1_000)
    on(client, "before-send.s3.UploadPart", answer(403, "AccessDenied"))
    on(client, "before-send.s3.AbortMultipartUpload", answer(403, "AccessDenied"))
    with pytest.raises(ClientError, match="UploadPart") as caught:
        unload(conn, client, bucket, KEY, "thing")
    assert "not aborted" in caught.value.__notes__[0]


@pytest.fixture
def staged(conn, client, bucket, small_parts):
    """An object of several parts, and an older row in the target."""
    fill(conn, 1_000)
    unload(conn, client, bucket, KEY, "thing")
    conn.execute("INSERT INTO thing_copy (id) VALUES (-1)")


def test_changed_content(conn, client, bucket, staged):
    """One byte that changed on the way, in a row that is valid: ValueError, no row."""

    def change(parsed, **_):
        content = parsed["Body"].read().replace(b"xxx", b"xyx", 1)
        parsed["Body"] = StreamingBody(BytesIO(content), len(content))

    on(client, "after-call.s3.GetObject", change, nth=2)
    with pytest.raises(ValueError, match="not what was uploaded"):
        load(conn, client, bucket, KEY, "thing_copy")
    assert [row[0] for row in everything(conn, "thing_copy")] == [-1]


@pytest.fixture
def cutting(s3):
    """The address of a server in front of S3 that cuts the line in the third part."""
    parts = urlsplit(s3)
    credentials, _, host = parts.netloc.rpartition("@")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            request = Request(f"http://{host}{self.path}", method=self.command)
            for name, value in self.headers.items():
                request.add_header(name, value)
            with urlopen(request, timeout=20) as answer:
                content = answer.read()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
            self.end_headers()
            is_third = "partNumber=3" in self.path
            self.wfile.write(content[: len(content) // 2] if is_third else content)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        netloc = f"{credentials}@127.0.0.1:{server.server_port}"
        yield urlunsplit(parts._replace(netloc=netloc))
        server.shutdown()
        thread.join()


def test_half_read(conn, client, bucket, staged, cutting):
    """A line that is cut in the middle of a part: an error, and no row. The next call
    loads them all."""
    with connected(cutting, CONFIG) as other, pytest.raises(BotoCoreError):
        load(conn, other, bucket, KEY, "thing_copy")
    assert [row[0] for row in everything(conn, "thing_copy")] == [-1]
    assert load(conn, client, bucket, KEY, "thing_copy") == 1_000


def test_replaced_while_it_is_read(conn, client, bucket, staged, s3):
    """An object that is replaced meanwhile: an error, and no mixture of both."""

    def replace(**_):
        unload(conn_of_its_own, other, bucket, KEY, "thing")

    with (
        connected(s3, CONFIG) as other,
        psycopg.connect(conn.info.dsn, password=conn.info.password) as conn_of_its_own,
    ):
        conn_of_its_own.execute("UPDATE thing SET note = 'new' || note")
        on(client, "after-call.s3.GetObject", replace)
        with pytest.raises(ClientError, match="PreconditionFailed"):
            load(conn, client, bucket, KEY, "thing_copy")
    assert [row[0] for row in everything(conn, "thing_copy")] == [-1]


def test_without_a_checksum(conn, client, bucket, staged):
    """An object that another program put there is refused."""
    client.put_object(Bucket=bucket, Key=KEY, Body=b"id,amount,at,note\n")
    with pytest.raises(ValueError, match="no SHA-256"):
        load(conn, client, bucket, KEY, "thing_copy")


def test_other_columns(conn, client, bucket, staged):
    """A table with other columns, or in another order, is refused."""
    conn.execute(
        "CREATE TABLE other (id bigint, at timestamptz, amount numeric, note text)"
    )
    with pytest.raises(psycopg.DataError, match="header"):
        load(conn, client, bucket, KEY, "other")


# --8<-- [start:wrong]
def unload_as_often_copied(conn, client, bucket, key, table):
    buffer = BytesIO()
    try:
        with conn.cursor().copy(f"COPY {table} TO STDOUT (FORMAT csv)") as copy:
            for block in copy:
                buffer.write(block)
    except psycopg.Error as error:
        print(f"Error: {error}")
    client.put_object(Bucket=bucket, Key=key, Body=buffer.getvalue())


# --8<-- [end:wrong]


def test_often_copied_leaves_half_a_table(conn, client, bucket, capsys):
    """Often copied: COPY fails in the middle, and the first rows replace the object of
    yesterday, which was whole."""
    client.put_object(Bucket=bucket, Key=KEY, Body=b"whole")
    fill(conn, 20_000)
    conn.execute("CREATE VIEW view AS SELECT id / (15000 - id) AS id, note FROM thing")
    unload_as_often_copied(conn, client, bucket, KEY, "(SELECT * FROM view)")
    assert "division by zero" in capsys.readouterr().out
    size = client.head_object(Bucket=bucket, Key=KEY)["ContentLength"]
    assert 10_000_000 < size < 15_000 * 1_020


def test_often_copied_holds_all_in_memory(conn, client, bucket):
    """Often copied: the whole table is in memory."""
    fill(conn, 20_000)
    tracemalloc.start()
    try:
        unload_as_often_copied(conn, client, bucket, KEY, "thing")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak > 20_000_000
