"""blob_storage: nothing overwritten, nothing half, a few megabytes of memory."""

import hashlib
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote

import pytest
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
    ServiceResponseError,
)
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import (
    BlobClient,
    BlobSasPermissions,
    BlobServiceClient,
    ContentSettings,
    LinearRetry,
    generate_blob_sas,
)

from cookbook.engines import engine
from recipes.cloud.blob_storage import BLOCK, download, open_container, upload
from tests.recipes.support.memory import MB, memory_growth

AT_ONCE = LinearRetry(backoff=0, retry_total=3, random_jitter_range=0)
NEVER = LinearRetry(retry_total=0)


def given(address: str) -> tuple[str, str, AzureNamedKeyCredential]:
    """The arguments of open_container."""
    url, account, key, name = engine("azurite").variables(address).values()
    return url, name, AzureNamedKeyCredential(account, key)


@pytest.fixture
def box(azurite):
    """An empty container."""
    with open_container(*given(azurite)) as container:
        container.create_container()
        yield container


@pytest.fixture
def file(tmp_path):
    """Make a file with that content."""

    def make(content: bytes, name: str = "orders.csv"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return make


def content(box, name: str = "orders") -> bytes:
    return box.download_blob(name).readall()


@pytest.mark.parametrize("size", [0, 1, BLOCK, 2 * BLOCK + 1])
def test_there_and_back(box, file, tmp_path, size):
    """A file comes back byte for byte, whether it is empty or has several blocks."""
    path = file((b"0123456789abcdef" * (size // 16 + 1))[:size])
    etag = upload(box, "orders", path)
    assert download(box, "orders", tmp_path / "back") == etag
    assert (tmp_path / "back").read_bytes() == path.read_bytes()


def there_and_back(address: str, path: str, back: str) -> None:
    with open_container(*given(address)) as container:
        upload(container, Path(path).name, Path(path))
        download(container, Path(path).name, Path(back))


def test_constant_memory(box, azurite, tmp_path):
    """A file of 48 MB needs less than 24 MB more memory than one of 9 MB."""
    for name, size in (("few", 9 * MB), ("many", 48 * MB)):
        with (tmp_path / name).open("wb") as out:
            out.truncate(size)
    few, many = (
        (azurite, str(tmp_path / name), str(tmp_path / f"{name}.back"))
        for name in ("few", "many")
    )
    assert memory_growth(there_and_back, few, many) < 24 * MB
    assert (tmp_path / "many.back").stat().st_size == 48 * MB


def test_never_overwrites_unasked(box, file):
    """Without an ETag it creates: a blob that is there stays as it is."""
    upload(box, "orders", file(b"first"))
    with pytest.raises(ResourceExistsError):
        upload(box, "orders", file(b"second"))
    assert content(box) == b"first"


def test_replaces_what_was_read(box, file):
    """With the ETag of what was read it replaces; with an older one it is refused."""
    first = upload(box, "orders", file(b"first"))
    second = upload(box, "orders", file(b"second"), replaces=first)
    assert second != first
    with pytest.raises(ResourceModifiedError):
        upload(box, "orders", file(b"third"), replaces=first)
    assert content(box) == b"second"


def test_large_file_is_refused_too(box, file):
    """The condition holds for a file of several blocks as well."""
    first = upload(box, "orders", file(b"first"))
    upload(box, "orders", file(b"second"), replaces=first)
    with pytest.raises(ResourceModifiedError):
        upload(box, "orders", file(b"x" * (BLOCK + 1)), replaces=first)
    assert content(box) == b"second"


def test_nothing_to_replace(box, file):
    """An ETag of a blob that is gone: refused, and nothing is made."""
    first = upload(box, "orders", file(b"first"))
    box.delete_blob("orders")
    with pytest.raises(HttpResponseError):
        upload(box, "orders", file(b"second"), replaces=first)
    assert list(box.list_blob_names()) == []


@pytest.mark.parametrize("replacing", [False, True])
def test_two_writers(box, file, replacing):
    """Of two writers at the same moment one wins, and the other one is told."""
    replaces = upload(box, "orders", file(b"first")) if replacing else None
    meet = threading.Barrier(2)
    paths = [file(f"by {n}".encode(), str(n)) for n in range(2)]

    def write(path):
        meet.wait(30)
        try:
            return bool(upload(box, "orders", path, replaces))
        except (ResourceExistsError, ResourceModifiedError):
            return False

    with ThreadPoolExecutor(2) as threads:
        won = list(threads.map(write, paths))
    assert sorted(won) == [False, True]
    assert content(box) == paths[won.index(True)].read_bytes()


@pytest.fixture
def cut(azurite, fault_proxy):
    """A container behind a proxy, whose client tries again at once."""
    proxy = fault_proxy(azurite)
    with open_container(*given(proxy.url), retry_policy=AT_ONCE) as container:
        yield container, proxy


@pytest.mark.parametrize("replacing", [False, True])
@pytest.mark.parametrize("size", [9, BLOCK + 1])
def test_lost_answer(box, cut, file, replacing, size):
    """The answer is lost, the client sends again, the server refuses it: the upload
    succeeds all the same, as it was its own blob that stood in the way."""
    container, proxy = cut
    replaces = upload(box, "orders", file(b"first")) if replacing else None
    proxy.cut_answer_to(b"comp=blocklist" if size > BLOCK else b"PUT ")
    etag = upload(container, "orders", file(b"x" * size), replaces)
    assert proxy.was_cut.is_set()
    assert box.get_blob_client("orders").get_blob_properties().etag == etag
    assert content(box) == b"x" * size


def test_server_is_gone_for_a_moment(box, cut, file):
    """A line that is cut before the request arrives: it is sent again."""
    container, proxy = cut
    proxy.cut_before(b"PUT ")
    upload(container, "orders", file(b"first"))
    assert proxy.was_cut.is_set()
    assert content(box) == b"first"


def test_silent_server(azurite, box, fault_proxy, file):
    """A server that does not answer is an error after the timeout, not a program that
    hangs."""
    proxy = fault_proxy(azurite)
    proxy.black_hole()
    short = {"retry_policy": NEVER, "read_timeout": 0.1}
    with (
        open_container(*given(proxy.url), **short) as container,
        pytest.raises(ServiceResponseError, match="timed out"),
    ):
        upload(container, "orders", file(b"first"))


def test_limits(azurite):
    """The client waits 5 s for a connection and 30 s for an answer, and tries 3 times
    more; the first pause is at most 2 s."""
    with open_container(*given(azurite)) as container:
        config, retry = (
            container._pipeline._transport.connection_config,
            container._config.retry_policy,
        )
    assert (config.timeout, config.read_timeout) == (5, 30)
    assert retry.total_retries == 3
    assert retry.get_backoff_time({"count": 0}) <= 2


@pytest.mark.parametrize("size", [9, BLOCK + 1])
def test_checksum_of_each_block(box, file, size):
    """The server checks each block on its arrival: one that changed on the way is
    refused."""

    class Noise(RequestsTransport):
        def send(self, request, **options):
            if request.method == "PUT" and "comp=blocklist" not in request.url:
                request.set_bytes_body(b"F" + bytes(request.body)[1:])
            return super().send(request, **options)

    credential = box.credential
    url = box.url.rpartition("/")[0]
    with (
        open_container(
            url, box.container_name, credential, transport=Noise(), retry_policy=NEVER
        ) as container,
        pytest.raises(HttpResponseError) as caught,
    ):
        upload(container, "orders", file(b"x" * size))
    assert "MD5 doesn't match" in caught.value.message
    assert list(box.list_blob_names()) == []


def test_wrong_checksum(box, file, tmp_path):
    """A blob that is not what its checksum says is refused: the file that was there
    stays, and nothing else lies about."""
    path = file(b"mine")
    wrong = ContentSettings(content_md5=bytearray(hashlib.md5(b"other").digest()))
    blob = box.upload_blob("orders", b"first")
    blob.set_http_headers(content_settings=wrong)
    with pytest.raises(ValueError, match="orders is not what its checksum says"):
        download(box, "orders", path)
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]


def test_no_such_blob(box, file, tmp_path):
    """A missing blob is an error, and the file that was there stays."""
    path = file(b"mine")
    with pytest.raises(ResourceNotFoundError):
        download(box, "nothing", path)
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]


def test_changed_while_it_was_read(azurite, box, file, tmp_path):
    """A blob that changes between two chunks is an error, not a mixture of both."""
    first = upload(box, "orders", file(b"a" * (2 * BLOCK)))
    other = file(b"b" * (2 * BLOCK), "other")

    class Overwritten(RequestsTransport):
        reads = 0

        def send(self, request, **options):
            if request.method == "GET":
                self.reads += 1
                if self.reads == 2:
                    upload(box, "orders", other, replaces=first)
            return super().send(request, **options)

    path = file(b"mine", "target")
    with (
        open_container(*given(azurite), transport=Overwritten()) as container,
        pytest.raises(ResourceModifiedError),
    ):
        download(container, "orders", path)
    assert path.read_bytes() == b"mine"


def test_secrets_stay_secret(azurite, file, caplog):
    """The key is in no text of the client, in no log at its most talkative, and not in
    the error of a server that refuses it."""
    caplog.set_level(logging.DEBUG)
    url, name, credential = given(azurite)
    key = credential.named_key.key
    with open_container(url, name, credential, logging_enable=True) as container:
        container.create_container()
        upload(container, "orders", file(b"first"))
        said = [repr(container), str(container), container.url, repr(credential)]
    wrong = "d3JvbmcgYW5kIHNlY3JldA=="
    refused = AzureNamedKeyCredential(credential.named_key.name, wrong)
    with (
        open_container(url, name, refused, retry_policy=NEVER) as container,
        pytest.raises(HttpResponseError, match="Server failed to auth") as caught,
    ):
        upload(container, "other", file(b"first"))
    assert "PUT" in caplog.text
    for secret in (key, wrong):
        assert secret not in "\n".join([*said, str(caught.value), caplog.text])


# --8<-- [start:link]
def make_link(blob: BlobClient, account_key: str) -> str:
    """An address with which anybody may read this blob for 15 minutes."""
    signature = generate_blob_sas(
        blob.account_name,
        blob.container_name,
        blob.blob_name,
        account_key=account_key,  # with an identity: user_delegation_key
        permission=BlobSasPermissions(read=True),
        expiry=datetime.now(UTC) + timedelta(minutes=15),
    )
    return f"{blob.url}?{signature}"


# --8<-- [end:link]


def test_link_reads_one_blob(azurite, box, file):
    """A link that is signed reads its blob without a key. It writes nothing, and opens
    no other blob."""
    _, _, credential = given(azurite)
    upload(box, "orders", file(b"first"))
    upload(box, "other", file(b"second"))
    link = make_link(box.get_blob_client("orders"), credential.named_key.key)
    with BlobClient.from_blob_url(link) as blob:
        assert blob.download_blob().readall() == b"first"
        with pytest.raises(HttpResponseError) as caught:
            blob.upload_blob(b"mine", overwrite=True)
        assert caught.value.status_code == 403
    with (
        BlobClient.from_blob_url(link.replace("/orders?", "/other?")) as blob,
        pytest.raises(HttpResponseError) as caught,
    ):
        blob.download_blob()
    assert caught.value.status_code == 403


def test_link_in_a_log(azurite, box, file, caplog):
    """Azure's own log hides the signature of a link; that of urllib3, at DEBUG, shows
    it."""
    _, _, credential = given(azurite)
    upload(box, "orders", file(b"first"))
    link = make_link(box.get_blob_client("orders"), credential.named_key.key)
    signature = unquote(link.rpartition("sig=")[2])
    for logger in (None, "urllib3"):  # influxdb-client has set a level of its own
        caplog.set_level(logging.DEBUG, logger)
    with BlobClient.from_blob_url(link) as blob:
        blob.download_blob().readall()
    said = {record.name.split(".")[0]: "" for record in caplog.records}
    for record in caplog.records:
        said[record.name.split(".")[0]] += unquote(record.getMessage())
    assert signature not in said["azure"]
    assert signature in said["urllib3"]


# --8<-- [start:wrong]
def save_as_often_copied(connection_string, container, name, path):
    service = BlobServiceClient.from_connection_string(connection_string)
    blob = service.get_blob_client(container, name)
    with path.open("rb") as file:
        blob.upload_blob(file.read(), overwrite=True)


def load_as_often_copied(connection_string, container, name, path):
    service = BlobServiceClient.from_connection_string(connection_string)
    blob = service.get_blob_client(container, name)
    with path.open("wb") as file:
        file.write(blob.download_blob().readall())


# --8<-- [end:wrong]


def connection_string(address: str) -> str:
    url, _, credential = given(address)
    name, key = credential.named_key
    return (
        f"DefaultEndpointsProtocol=http;AccountName={name};AccountKey={key};"
        f"BlobEndpoint={url};"
    )


def test_often_copied_loses_an_update(azurite, box, file):
    """Often copied: of two who read, change and write, the second one wipes out what
    the first one wrote, and neither is told."""
    said = connection_string(azurite)
    save_as_often_copied(said, box.container_name, "orders", file(b"1\n"))
    anna = ben = content(box)
    save_as_often_copied(said, box.container_name, "orders", file(anna + b"anna\n"))
    save_as_often_copied(said, box.container_name, "orders", file(ben + b"ben\n"))
    assert content(box) == b"1\nben\n"


def test_often_copied_empties_the_file(azurite, box, file):
    """Often copied: the file is opened for writing first, so a download that fails
    leaves it empty."""
    path = file(b"mine")
    with pytest.raises(ResourceNotFoundError):
        load_as_often_copied(
            connection_string(azurite), box.container_name, "nothing", path
        )
    assert path.read_bytes() == b""


def save_large(address: str, path: str) -> None:
    _, container, _ = given(address)
    save_as_often_copied(connection_string(address), container, "large", Path(path))


def test_often_copied_holds_the_file_in_memory(azurite, box, file):
    """Often copied: read() takes as much memory as the file has bytes."""
    few, many = file(b"", "few"), file(bytes(50 * MB), "many")
    growth = memory_growth(save_large, (azurite, str(few)), (azurite, str(many)))
    assert growth > 45 * MB
