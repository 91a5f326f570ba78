"""s3_export_import: whole or not at all, counted, and in constant memory."""

from datetime import UTC, datetime
from decimal import Decimal
from io import BytesIO

import psycopg
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError, IncompleteReadError, ReadTimeoutError
from botocore.response import StreamingBody
from psycopg.sql import SQL

from recipes.cloud import s3_export_import as recipe
from recipes.cloud.s3_export_import import CONFIG, export, find, load
from tests.recipes.support.memory import MB, memory_growth
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

FOLDER = "things/2026-11-21"
THINGS = SQL("SELECT * FROM thing ORDER BY id")


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
    """boto3 makes a part from 5 MiB on."""
    config = TransferConfig(
        multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, use_threads=False
    )
    monkeypatch.setattr(recipe, "PARTS", config)


def test_there_and_back(conn, client, bucket):
    """What comes back is what went out, in any session's date style: NULL and the empty
    string, quotes and line ends, exact numbers, moments to the microsecond."""
    moment = datetime(2026, 3, 2, 1, 2, 3, 456789, tzinfo=UTC)
    rows = [
        (1, Decimal("12345678901234567890.123456789"), moment, 'a "b", \\N\r\n\tc'),
        (2, None, None, ""),
        (3, Decimal("NaN"), moment, None),
    ]
    conn.cursor().executemany("INSERT INTO thing VALUES (%s, %s, %s, %s)", rows)
    conn.execute("SET DateStyle = 'SQL, DMY'")
    assert export(conn, client, bucket, FOLDER, THINGS)["rows"] == 3
    conn.execute("SET DateStyle = 'German'")
    assert load(conn, client, bucket, FOLDER, "thing_copy") == 3
    conn.execute("SET DateStyle = ISO")
    assert str(everything(conn, "thing_copy")) == str(everything(conn, "thing"))


def test_manifest(conn, client, bucket):
    """The manifest has the key, the number of rows, and the SHA-256 of the content, and
    is written last."""
    fill(conn, 10)
    order = []
    for event in ("PutObject", "CompleteMultipartUpload"):
        client.meta.events.register(
            f"before-call.s3.{event}",
            lambda params, **_: order.append(params["url_path"].rpartition(".")[2]),
        )
    manifest = export(conn, client, bucket, FOLDER, THINGS)
    assert order == ["csv", "json"]
    content = client.get_object(Bucket=bucket, Key=manifest["key"])["Body"].read()
    assert manifest["sha256"] == recipe.sha256(content).hexdigest()
    assert manifest["rows"] == content.count(b"\n") - 1 == 10
    assert find(client, bucket, FOLDER) == manifest


def test_query(conn, client, bucket):
    """Any query can be exported, and an empty result as well."""
    fill(conn, 10)
    some = SQL("SELECT * FROM thing WHERE id > {}").format(7)
    assert export(conn, client, bucket, "some", some)["rows"] == 3
    assert load(conn, client, bucket, "some", "thing_copy") == 3
    none = SQL("SELECT * FROM thing WHERE false")
    assert export(conn, client, bucket, "none", none)["rows"] == 0
    assert load(conn, client, bucket, "none", "thing_copy") == 0


def test_in_parts(conn, client, bucket, small_parts):
    """A large export is a multipart upload of whole parts, and comes back whole."""
    sizes = []
    client.meta.events.register(
        "provide-client-params.s3.UploadPart",
        lambda params, **_: sizes.append(len(params["Body"])),
    )
    fill(conn, 12_000)
    assert export(conn, client, bucket, FOLDER, THINGS)["rows"] == 12_000
    assert sizes[:2] == [5 * MIB, 5 * MIB]
    assert 0 < sizes[2] < 5 * MIB
    assert load(conn, client, bucket, FOLDER, "thing_copy") == 12_000
    assert everything(conn, "thing_copy") == everything(conn, "thing")


def there_and_back(url, address, bucket, folder, rows):
    """In a process of its own, so that its memory can be measured."""
    recipe.PARTS = TransferConfig(
        multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB, use_threads=False
    )
    query = SQL(
        "SELECT n AS id, repeat('x', 10000) AS note FROM generate_series(1,{})n"
    )
    with (
        connected(address, CONFIG) as client,
        psycopg.connect(url, autocommit=True) as conn,
    ):
        export(conn, client, bucket, folder, query.format(rows))
        conn.execute("CREATE TEMPORARY TABLE big (id int, note text)")
        load(conn, client, bucket, folder, "big")


def test_constant_memory(postgresql, s3, client, bucket):
    """An export of 40 MB goes out and comes back in the memory of a few parts, of 5 MiB
    each."""
    few = (postgresql, s3, bucket, "few", 1_100)
    many = (postgresql, s3, bucket, "many", 4_000)
    assert memory_growth(there_and_back, few, many) < 20 * MB
    key = find(client, bucket, "many")["key"]
    assert client.head_object(Bucket=bucket, Key=key)["ContentLength"] > 40 * MB


def test_second_export(conn, client, bucket):
    """A folder that has an export is left as it was: the second one is refused, and
    nothing of it stays."""
    fill(conn, 10)
    first = export(conn, client, bucket, FOLDER, THINGS)
    fill(conn, 5)
    with pytest.raises(ClientError, match="PreconditionFailed"):
        export(conn, client, bucket, FOLDER, THINGS)
    assert left(client, bucket) == (
        sorted([first["key"], f"{FOLDER}/manifest.json"]),
        0,
    )
    assert load(conn, client, bucket, FOLDER, "thing_copy") == 10


def test_lost_answer_to_the_manifest(conn, client, bucket):
    """The answer to the manifest is lost, and boto3 sends it again: S3 refuses, but
    what is there is this export, so it is a success."""
    fill(conn, 10)

    sent = []

    def keep(params, **_):
        sent.append(params)

    def lose(request, **_):
        manifest = dict(sent[-1])
        if manifest.pop("IfNoneMatch", None) and len(sent) == 2:
            client.put_object(**manifest)  # it arrives, and nobody hears
            raise ReadTimeoutError(endpoint_url=request.url)

    client.meta.events.register("provide-client-params.s3.PutObject", keep)
    client.meta.events.register("before-send.s3.PutObject", lose)
    assert export(conn, client, bucket, FOLDER, THINGS)["rows"] == 10
    assert len(sent) == 3
    assert load(conn, client, bucket, FOLDER, "thing_copy") == 10


def test_failing_part(conn, client, bucket, small_parts):
    """A part that S3 refuses ends the export: the error is raised, no part and no
    object is left, and the connection can go on."""
    fill(conn, 12_000)
    on(client, "before-send.s3.UploadPart", answer(403, "AccessDenied"), nth=2)
    with pytest.raises(ClientError, match="AccessDenied"):
        export(conn, client, bucket, FOLDER, THINGS)
    assert left(client, bucket) == ([], 0)
    assert conn.execute("SELECT 42").fetchone() == (42,)


def test_part_is_sent_again(conn, client, bucket, small_parts):
    """A part that S3 was too busy for is sent again."""
    fill(conn, 12_000)
    on(client, "before-send.s3.UploadPart", answer(503, "SlowDown"), nth=2)
    assert export(conn, client, bucket, FOLDER, THINGS)["rows"] == 12_000
    assert load(conn, client, bucket, FOLDER, "thing_copy") == 12_000


@pytest.mark.parametrize("rows", [100, 12_000], ids=["one put", "parts"])
def test_query_that_fails(conn, client, bucket, small_parts, rows):
    """A query that fails in the middle of COPY: its error is raised, and nothing is
    left in S3."""
    fill(conn, rows)
    failing = SQL("SELECT id / ({} - id) AS id, note FROM thing").format(rows - 1)
    with pytest.raises(psycopg.errors.DivisionByZero):
        export(conn, client, bucket, FOLDER, failing)
    assert left(client, bucket) == ([], 0)
    with pytest.raises(ValueError, match="no manifest"):
        load(conn, client, bucket, FOLDER, "thing_copy")


def test_lost_database(conn, client, bucket, small_parts, postgresql):
    """When the database ends the session in the middle, nothing is left in S3."""
    fill(conn, 40_000)
    with psycopg.connect(postgresql, autocommit=True) as worker:
        pid = worker.info.backend_pid

        def kill(**_):
            conn.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,))

        on(client, "before-call.s3.UploadPart", kill)
        with pytest.raises(psycopg.OperationalError):
            export(worker, client, bucket, FOLDER, THINGS)
    assert left(client, bucket) == ([], 0)


@pytest.fixture
def exported(conn, client, bucket):
    """An export of 1000 rows, and an older row in the target."""
    fill(conn, 1_000)
    conn.execute("INSERT INTO thing_copy (id) VALUES (-1)")
    return export(conn, client, bucket, FOLDER, THINGS)


def is_as_it_was(conn):
    return [row[0] for row in everything(conn, "thing_copy")] == [-1]


def test_changed_content(conn, client, bucket, exported):
    """One byte that changed, in a row that is valid: ValueError, and no row."""
    at = {"Bucket": bucket, "Key": exported["key"]}
    content = client.get_object(**at)["Body"].read()
    client.put_object(**at, Body=content.replace(b"xxx", b"xyx", 1))
    with pytest.raises(ValueError, match="is not what was exported"):
        load(conn, client, bucket, FOLDER, "thing_copy")
    assert is_as_it_was(conn)


def test_row_that_does_not_arrive(conn, client, bucket, exported):
    """A trigger that drops a row: the numbers differ, ValueError, and no row."""
    conn.execute("""
        CREATE FUNCTION drop_row() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN RETURN NULL; END $$;
        CREATE TRIGGER drop_row BEFORE INSERT ON thing_copy FOR EACH ROW
            WHEN (NEW.id = 500) EXECUTE FUNCTION drop_row();
    """)
    with pytest.raises(ValueError, match="999 of 1000 rows"):
        load(conn, client, bucket, FOLDER, "thing_copy")
    assert is_as_it_was(conn)


def test_line_that_is_cut(conn, client, bucket, exported):
    """A line that is cut in the middle of the object: an error, and no row. The next
    call loads them all."""

    def cut(parsed, **_):
        content = parsed["Body"].read()
        half = BytesIO(content[: len(content) // 2])
        parsed["Body"] = StreamingBody(half, len(content))

    on(client, "after-call.s3.GetObject", cut, nth=2)
    with pytest.raises(IncompleteReadError):
        load(conn, client, bucket, FOLDER, "thing_copy")
    assert is_as_it_was(conn)
    assert load(conn, client, bucket, FOLDER, "thing_copy") == 1_000


def test_other_columns(conn, client, bucket, exported):
    """A table with other columns, or in another order, is refused."""
    conn.execute(
        "CREATE TABLE other (id bigint, at timestamptz, amount numeric, note text)"
    )
    with pytest.raises(psycopg.DataError, match="header"):
        load(conn, client, bucket, FOLDER, "other")


# --8<-- [start:wrong]
def export_as_often_copied(conn, client, bucket, table):
    buffer = BytesIO()
    with conn.cursor().copy(f"COPY {table} TO STDOUT WITH CSV") as copy:
        for block in copy:
            buffer.write(block)
    client.put_object(Bucket=bucket, Key=f"{table}.csv", Body=buffer.getvalue())


def import_as_often_copied(conn, client, bucket, table):
    body = client.get_object(Bucket=bucket, Key=f"{table}.csv")["Body"]
    with conn.cursor() as cursor:
        for line in body.iter_lines():
            values = line.decode().split(",")
            cursor.execute(f"INSERT INTO {table} VALUES (%s, %s)", values)


# --8<-- [end:wrong]


@pytest.fixture
def pairs(conn):
    conn.execute("CREATE TABLE pair (id int, note text)")


def test_often_copied_null(conn, client, bucket, pairs):
    """Often copied: NULL comes back as the empty string."""
    conn.execute("INSERT INTO pair VALUES (1, NULL)")
    export_as_often_copied(conn, client, bucket, "pair")
    conn.execute("TRUNCATE pair")
    import_as_often_copied(conn, client, bucket, "pair")
    assert everything(conn, "pair") == [(1, "")]


def test_often_copied_half_a_table(conn, client, bucket, pairs):
    """Often copied: a comma in the third row ends the import. The first two rows stay,
    and the next try doubles them."""
    conn.execute("INSERT INTO pair VALUES (1, 'a'), (2, 'b'), (3, 'c, d')")
    export_as_often_copied(conn, client, bucket, "pair")
    conn.execute("TRUNCATE pair")
    for _ in range(2):
        with pytest.raises(psycopg.ProgrammingError):
            import_as_often_copied(conn, client, bucket, "pair")
    assert everything(conn, "pair") == [(1, "a"), (1, "a"), (2, "b"), (2, "b")]


def test_often_copied_overwrites(conn, client, bucket, pairs):
    """Often copied: an export of the empty table replaces the good one, without a
    word."""
    conn.execute("INSERT INTO pair VALUES (1, 'a')")
    export_as_often_copied(conn, client, bucket, "pair")
    conn.execute("TRUNCATE pair")
    export_as_often_copied(conn, client, bucket, "pair")
    assert client.head_object(Bucket=bucket, Key="pair.csv")["ContentLength"] == 0
