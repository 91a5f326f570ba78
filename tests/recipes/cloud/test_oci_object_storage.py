"""oci_object_storage: the SDK, and a stand-in that asks for its signatures."""

import hashlib
import io
import logging
import socket
import traceback
import tracemalloc
from base64 import b64encode

import oci
import pytest
from oci.exceptions import InvalidConfig, RequestException, ServiceError
from oci.object_storage import models
from oci.object_storage.transfer.internal import multipart_object_assembler

from cookbook.engines import engine
from cookbook.engines.in_process import behind
from cookbook.stand_ins.oracle_cloud import Answer, Refusal
from recipes.cloud import oci_object_storage as recipe
from recipes.cloud.oci_object_storage import download, make_client, upload

MIB = 2**20
NAME = "2026/shop.dump"


@pytest.fixture
def stand_in(oracle_cloud):
    return behind(oracle_cloud)


@pytest.fixture
def config(oracle_cloud):
    file = engine("oracle_cloud").variables(oracle_cloud)["OCI_CONFIG_FILE"]
    return oci.config.from_file(file)


@pytest.fixture
def connect(stand_in):
    """Make clients with the recipe's settings, that do not pause; closed afterwards."""
    made = []

    def make(config):
        client = make_client(config, stand_in.url)
        made.append(client)
        return client

    yield make
    for client in made:
        client.base_client.session.close()


@pytest.fixture
def client(config, connect, monkeypatch):
    monkeypatch.setattr(recipe.RETRIES, "base_sleep_time_seconds", 0)
    monkeypatch.setattr(recipe.RETRIES, "decorrelated_jitter", 0)
    return connect(config)


@pytest.fixture
def bucket(client, stand_in, config):
    where = {"name": "dumps", "compartment_id": config["tenancy"]}
    client.create_bucket(stand_in.namespace, models.CreateBucketDetails(**where))
    return stand_in.namespace, "dumps"


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    """The stand-in takes parts of any size."""
    monkeypatch.setattr(recipe, "PART", 1_000)


def left(stand_in):
    """The names of the objects, and how many uploads are neither done nor aborted."""
    one = stand_in.buckets["dumps"]
    return list(one.objects), len(one.uploads)


def asked(stand_in, method, part=""):
    return [r for r in stand_in.requests if r.method == method and part in r.path]


@pytest.mark.parametrize("size", [1, 999, 1_000, 1_001, 5_000])
def test_there_and_back(client, bucket, stand_in, tmp_path, size):
    """What comes back is what went up, whether the last part is full or not."""
    content = bytes(i % 251 for i in range(size))
    etag = upload(client, bucket, NAME, io.BytesIO(content))
    assert download(client, bucket, NAME, tmp_path / "dump") == etag
    assert (tmp_path / "dump").read_bytes() == content
    assert left(stand_in) == ([NAME], 0)
    assert [path.name for path in tmp_path.iterdir()] == ["dump"]


def test_every_request_is_signed(client, bucket, stand_in, tmp_path):
    """Each request carries a signature that the stand-in verified: of the method, the
    path and the host, the date, and of a body that is not an object's."""
    upload(client, bucket, NAME, io.BytesIO(b"x" * 2_500))
    download(client, bucket, NAME, tmp_path / "dump")
    assert len(stand_in.requests) == 10
    for request in stand_in.requests:
        given = request.headers["authorization"]
        assert given.startswith('Signature algorithm="rsa-sha256"')
        assert 'headers="date (request-target) host' in given
        assert ("x-content-sha256" in given) == (request.method == "POST")


def test_other_key_is_refused(config, connect, stand_in, tmp_path):
    """A signature with another key than the one that is registered: ServiceError, with
    status 401."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    other = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    file = tmp_path / "key.pem"
    file.write_bytes(other)
    client = connect(config | {"key_file": str(file)})
    with pytest.raises(ServiceError) as caught:
        client.get_namespace()
    assert (caught.value.status, caught.value.code) == (401, "NotAuthenticated")


def test_incomplete_configuration(config):
    """A configuration without a fingerprint: InvalidConfig, before anything is sent."""
    with pytest.raises(InvalidConfig, match="fingerprint"):
        make_client({k: v for k, v in config.items() if k != "fingerprint"})


def test_limits_and_region(config):
    """Five seconds to connect and sixty to wait, in each of four attempts; and without
    an endpoint, that of the configuration's region, over TLS."""
    client = make_client(config)
    assert client.base_client.timeout == (5, 60)
    limits = [vars(one) for one in recipe.RETRIES.checkers.checkers]
    assert {"max_attempts": 4} in limits
    endpoint = client.base_client.endpoint
    assert endpoint.startswith("https://objectstorage.eu-frankfurt-1.")


def test_nothing_is_replaced_unawares(client, bucket, stand_in):
    """An object of that name is there: ServiceError 412, and it is as it was; not even
    a part is sent."""
    upload(client, bucket, NAME, io.BytesIO(b"old"))
    sent = len(asked(stand_in, "PUT"))
    with pytest.raises(ServiceError) as caught:
        upload(client, bucket, NAME, io.BytesIO(b"new"))
    assert (caught.value.status, caught.value.code) == (412, "IfNoneMatchFailed")
    assert stand_in.buckets["dumps"].objects[NAME].content == b"old"
    assert len(asked(stand_in, "PUT")) == sent
    assert left(stand_in) == ([NAME], 0)


def test_replaced_knowingly(client, bucket, stand_in):
    """With the ETag of the object that is there, it is replaced; with an older one it
    is not."""
    first = upload(client, bucket, NAME, io.BytesIO(b"1"))
    second = upload(client, bucket, NAME, io.BytesIO(b"2"), old=first)
    with pytest.raises(ServiceError) as caught:
        upload(client, bucket, NAME, io.BytesIO(b"3"), old=first)
    assert caught.value.code == "IfMatchFailed"
    assert stand_in.buckets["dumps"].objects[NAME].etag == second


class Meanwhile(io.BytesIO):
    """A source that lets something happen when its second part is read."""

    def __init__(self, content, act):
        super().__init__(content)
        self._act, self._reads = act, 0

    def read(self, size=-1):
        self._reads += 1
        if self._reads == 2:
            self._act()
        return super().read(size)


def test_two_at_once(client, bucket, stand_in):
    """Two upload the same name at once: the first to end has it, the other gets 412,
    and its parts are removed."""
    source = Meanwhile(
        b"x" * 2_500, lambda: upload(client, bucket, NAME, io.BytesIO(b"first"))
    )
    with pytest.raises(ServiceError) as caught:
        upload(client, bucket, NAME, source)
    assert caught.value.status == 412
    assert stand_in.buckets["dumps"].objects[NAME].content == b"first"
    assert left(stand_in) == ([NAME], 0)


def test_source_that_fails(client, bucket, stand_in):
    """The source fails in the middle: its own error is raised, no part is left, and an
    older object is as it was."""
    etag = upload(client, bucket, NAME, io.BytesIO(b"old"))

    def fail():
        raise OSError("pg_dump ended with 1")

    with pytest.raises(OSError, match="pg_dump"):
        upload(client, bucket, NAME, Meanwhile(b"x" * 2_500, fail), old=etag)
    assert left(stand_in) == ([NAME], 0)
    assert stand_in.buckets["dumps"].objects[NAME].etag == etag


def test_empty_source(client, bucket, stand_in):
    """A source that gives nothing: ValueError, and no object, as a dump of nothing is
    one that failed."""
    with pytest.raises(ValueError, match="nothing to upload"):
        upload(client, bucket, NAME, io.BytesIO())
    assert left(stand_in) == ([], 0)


def once(stand_in, method, part, act):
    """Act on the first request of that kind, in place of the stand-in."""
    done = []

    def interfere(request):
        if done or request.method != method or part not in request.path:
            return None
        done.append(request)
        return act(request)

    stand_in.interfere = interfere
    return done


def refuse(status, code):
    def act(request):
        raise Refusal(status, code)

    return act


@pytest.mark.parametrize("status", [429, 500, 503])
def test_part_is_sent_again(client, bucket, stand_in, tmp_path, status):
    """A part that the service was too busy for is sent again, and that part alone."""
    done = once(stand_in, "PUT", "uploadPartNum=2", refuse(status, "TooManyRequests"))
    upload(client, bucket, NAME, io.BytesIO(b"x" * 2_500))
    assert len(done) == 1
    assert len(asked(stand_in, "PUT")) == 4
    download(client, bucket, NAME, tmp_path / "dump")


def test_busy_for_ever(client, bucket, stand_in):
    """A service that is never free: the error after four attempts, and no part left."""

    def interfere(request):
        if request.method == "PUT":
            raise Refusal(503, "ServiceUnavailable")

    stand_in.interfere = interfere
    with pytest.raises(ServiceError) as caught:
        upload(client, bucket, NAME, io.BytesIO(b"x"))
    assert caught.value.status == 503
    assert len(asked(stand_in, "PUT")) == 4
    assert left(stand_in) == ([], 0)


def test_damaged_part_is_refused(client, bucket, stand_in):
    """A part that is damaged on its way is refused by the service, and never stored."""

    def damage(request):
        request.body = b"#" + request.body[1:]

    once(stand_in, "PUT", "", damage)
    with pytest.raises(ServiceError) as caught:
        upload(client, bucket, NAME, io.BytesIO(b"x" * 2_500))
    assert caught.value.code == "UnmatchedContentSHA256"
    assert left(stand_in) == ([], 0)


def test_answer_to_the_commit_is_lost(client, bucket, stand_in):
    """The answer to the commit is lost: the SDK asks again, and raises ServiceError.
    The object is there, and `head_object` shows its checksum."""

    def lose(request):
        stand_in.answer(request)
        raise ConnectionError

    done = once(stand_in, "POST", "uploadId=", lose)
    content = b"x" * 1_500
    with pytest.raises(ServiceError):
        upload(client, bucket, NAME, io.BytesIO(content))
    assert len(done) == 1
    assert left(stand_in) == ([NAME], 0)
    parts = b"".join(
        hashlib.sha256(it).digest() for it in (content[:1_000], content[1_000:])
    )
    total = b64encode(hashlib.sha256(parts).digest()).decode()
    head = client.head_object(*bucket, NAME)
    assert head.headers["opc-multipart-sha256"] == f"{total}-2"


def test_abort_that_fails(client, bucket, stand_in):
    """When the upload cannot be aborted either, the first error comes with a note."""

    def interfere(request):
        if request.method in ("PUT", "DELETE"):
            raise Refusal(403, "NotAllowed", request.method)

    stand_in.interfere = interfere
    with pytest.raises(ServiceError) as caught:
        upload(client, bucket, NAME, io.BytesIO(b"x"))
    assert caught.value.message == "PUT"
    assert "not aborted" in caught.value.__notes__[0]


@pytest.fixture
def stored(client, bucket, tmp_path):
    """An object of three parts, and an older file of that name."""
    upload(client, bucket, NAME, io.BytesIO(b"x" * 2_500))
    path = tmp_path / "dump"
    path.write_bytes(b"old")
    return path


def untouched(path):
    return [one.read_bytes() for one in path.parent.iterdir()] == [b"old"]


def test_changed_content(client, bucket, stand_in, stored):
    """One byte that changed on the way back: ValueError, and the older file is as it
    was."""
    once(
        stand_in,
        "GET",
        "/o/",
        lambda _: Answer(206, b"y" + b"x" * 999, {"content-type": "text/plain"}),
    )
    with pytest.raises(ValueError, match="not what was uploaded"):
        download(client, bucket, NAME, stored)
    assert untouched(stored)


def test_line_is_cut(client, bucket, stand_in, stored):
    """A line that is cut in the middle of a part: an error, and the older file is as it
    was. The next call succeeds."""
    once(
        stand_in,
        "GET",
        "/o/",
        lambda _: Answer(206, b"x" * 500, {"content-length": "1000"}),
    )
    with pytest.raises(OSError, match="IncompleteRead"):
        download(client, bucket, NAME, stored)
    assert untouched(stored)
    download(client, bucket, NAME, stored)
    assert stored.read_bytes() == b"x" * 2_500


def test_replaced_while_it_is_read(client, bucket, stand_in, stored):
    """An object that is replaced meanwhile: ServiceError 412, and no mixture."""
    objects = stand_in.buckets["dumps"].objects

    def replace(request):
        objects[NAME].etag = "another"

    once(stand_in, "GET", "/o/", replace)
    with pytest.raises(ServiceError) as caught:
        download(client, bucket, NAME, stored)
    assert caught.value.status == 412
    assert untouched(stored)


def test_object_of_another_program(client, bucket, stored):
    """An object without a checksum of its parts is refused: ValueError."""
    client.put_object(*bucket, "other", b"content")
    with pytest.raises(ValueError, match="no SHA-256"):
        download(client, bucket, "other", stored)
    assert untouched(stored)


def test_no_such_object(client, bucket, stored):
    """No object of that name: ServiceError 404."""
    with pytest.raises(ServiceError) as caught:
        download(client, bucket, "none", stored)
    assert caught.value.status == 404
    assert untouched(stored)


class Endless(io.RawIOBase):
    """So many bytes, made when they are read."""

    def __init__(self, size):
        self._left = size

    def read(self, size=-1):
        size = min(size, self._left)
        self._left -= size
        return b"x" * size


def test_constant_memory(client, bucket, stand_in, monkeypatch, tmp_path):
    """Forty megabytes go up and come back in the memory of a few parts, of one each."""
    monkeypatch.setattr(recipe, "PART", MIB)
    kept = {}  # what the stand-in stores is not counted: only its checksums are

    def interfere(request):
        number = request.query.get("uploadPartNum")
        if request.method == "PUT":
            kept[int(number)] = hashlib.sha256(request.body).digest()
            return Answer(headers={"etag": number})
        if request.method == "POST" and "uploadId" in request.query:
            return Answer(headers={"etag": "all"})
        if request.method in ("HEAD", "GET"):
            total = hashlib.sha256(b"".join(kept[i] for i in sorted(kept))).digest()
            headers = {
                "etag": "all",
                "opc-meta-part-size": str(MIB),
                "opc-multipart-sha256": f"{recipe.b64encode(total).decode()}-40",
            }
            if request.method == "HEAD":
                return Answer(200, b"", headers | {"content-length": str(40 * MIB)})
            return Answer(206, b"x" * MIB, headers)
        return None

    stand_in.interfere = interfere
    stand_in.requests = Forgetful()
    tracemalloc.start()
    try:
        upload(client, bucket, NAME, Endless(40 * MIB))
        download(client, bucket, NAME, tmp_path / "dump")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (tmp_path / "dump").stat().st_size == 40 * MIB
    assert peak < 12 * MIB


class Forgetful(list):
    def append(self, item):
        pass


def test_key_is_not_shown(client, bucket, config, stand_in, caplog, capsys, stored):
    """The private key is in no log, error or object that is shown, and neither is a
    signature."""
    caplog.set_level(logging.DEBUG)
    shown = [repr(client), str(vars(client)), repr(client.base_client.signer)]
    for attempt in (
        lambda: download(client, bucket, "none", stored),
        lambda: upload(client, bucket, NAME, io.BytesIO(b"x")),
    ):
        try:
            attempt()
        except ServiceError as error:
            shown += traceback.format_exception(error)
    key = stand_in.key_file.read_text().splitlines()[1]
    signatures = [r.headers["authorization"][-300:-30] for r in stand_in.requests]
    out = "".join((*shown, caplog.text, *capsys.readouterr()))
    assert "IfNoneMatchFailed" in out
    assert not any(secret in out for secret in (key, "PRIVATE KEY", *signatures))


def test_nobody_answers(config, bucket):
    """Where nobody listens: RequestException, which is an OSError."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    client = make_client(config, f"http://127.0.0.1:{port}")
    client.retry_strategy = oci.retry.NoneRetryStrategy()
    with pytest.raises(RequestException) as caught:
        upload(client, bucket, NAME, io.BytesIO(b"x"))
    assert isinstance(caught.value, OSError)
    client.base_client.session.close()


# --8<-- [start:wrong]
def save_as_often_copied(client, namespace, bucket, name, path):
    client.put_object(namespace, bucket, name, path.open("rb"))


def load_as_often_copied(client, namespace, bucket, name, path):
    answer = client.get_object(namespace, bucket, name)
    with path.open("wb") as file:
        for block in answer.data.raw.stream(1024 * 1024):
            file.write(block)


# --8<-- [end:wrong]


def test_often_copied_replaces_unawares(client, bucket, stand_in, tmp_path):
    """Often copied: the dump of yesterday is replaced by an empty one, and nobody is
    told; the file is left open."""
    upload(client, bucket, NAME, io.BytesIO(b"yesterday"))
    (tmp_path / "dump").touch()
    with pytest.warns(ResourceWarning, match="unclosed file"):
        save_as_often_copied(client, *bucket, NAME, tmp_path / "dump")
    assert stand_in.buckets["dumps"].objects[NAME].content == b""


def test_often_copied_leaves_half_a_file(client, bucket, stand_in, stored):
    """Often copied: the line is cut, and where the older file was there is half of the
    new one, under its name."""
    once(
        stand_in,
        "GET",
        "/o/",
        lambda _: Answer(200, b"x" * 500, {"content-length": "2500"}),
    )
    with pytest.raises(Exception, match="IncompleteRead"):
        load_as_often_copied(client, *bucket, NAME, stored)
    assert stored.read_bytes() == b"x" * 500


def test_often_copied_compares_nothing(client, bucket, stand_in, stored):
    """Often copied: content that changed on the way is taken for the object."""
    once(stand_in, "GET", "/o/", lambda _: Answer(200, b"y" * 2_500))
    load_as_often_copied(client, *bucket, NAME, stored)
    assert stored.read_bytes() == b"y" * 2_500


@pytest.fixture
def end_pools(monkeypatch):
    """The SDK leaves a pool of threads behind when a source fails: end it."""
    pools = []
    make = multipart_object_assembler.Pool

    def recorded(**options):
        pools.append(make(**options))
        return pools[-1]

    monkeypatch.setattr(multipart_object_assembler, "Pool", recorded)
    yield
    for pool in pools:
        pool.terminate()
        pool.join()


def test_often_copied_upload_manager_leaves_parts(client, bucket, stand_in, end_pools):
    """Often copied, with the SDK's own `UploadManager`: when the source fails, what was
    sent stays, and costs."""
    manager = oci.object_storage.UploadManager(client, allow_parallel_uploads=False)

    def fail():
        raise OSError("pg_dump ended with 1")

    with pytest.raises(OSError, match="pg_dump"):
        manager.upload_stream(
            *bucket, NAME, Meanwhile(b"x" * 2_500, fail), part_size=1_000
        )
    assert left(stand_in) == ([], 1)
