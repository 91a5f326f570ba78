import gc
import gzip
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from google.api_core.exceptions import BadRequest, NotFound
from google.cloud.storage import Bucket, Client
from google.cloud.storage.exceptions import DataCorruption

from cookbook.engines import engine
from recipes.cloud import cloud_storage as recipe
from recipes.cloud.cloud_storage import crc32c, download, upload
from tests.recipes.support.http_proxy import HttpProxy
from tests.recipes.support.memory import MB, memory_growth

NAME = "orders/november 2026.csv"
LARGE = (8 << 20) + 1  # bytes: more than the client sends in one request


# The client forgets to close the line when a download is refused or cut.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")


@pytest.fixture(autouse=True)
def _collect() -> Iterator[None]:
    """What is forgotten in a test is collected in that test."""
    yield
    gc.collect()


@pytest.fixture
def environment(gcs, monkeypatch) -> dict[str, str]:
    """The variables of the recipe, set."""
    variables = engine("gcs").variables(gcs)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    # Else the client asks for the bucket as well, in a thread of its own.
    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
    return variables


@pytest.fixture
def bucket(environment) -> Iterator[Bucket]:
    """An empty bucket."""
    with Client() as client:
        yield client.bucket(environment["STORAGE_BUCKET"])


@pytest.fixture
def proxy(bucket, environment, monkeypatch) -> Iterator[HttpProxy]:
    proxy = HttpProxy(environment["STORAGE_EMULATOR_HOST"])
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
    yield proxy
    proxy.close()


@pytest.fixture
def shaky(proxy, environment) -> Iterator[Bucket]:
    """The same bucket, by way of the proxy."""
    with Client() as client:
        yield client.bucket(environment["STORAGE_BUCKET"])


@pytest.fixture
def export(tmp_path) -> Path:
    path = tmp_path / "export.csv"
    path.write_bytes(b"id,total\n1,30.10\n")
    return path


@pytest.fixture
def copy(tmp_path) -> Path:
    """Where a download goes: another file is there already."""
    path = tmp_path / "copies" / "copy.csv"
    path.parent.mkdir()
    path.write_bytes(b"what was there before")
    return path


@pytest.fixture
def soon(monkeypatch) -> None:
    """Give up after a fifth of a second, not after two minutes."""
    monkeypatch.setattr(recipe, "RETRY", recipe.RETRY.with_timeout(0.2))


def make_large(path) -> bytes:
    content = os.urandom(LARGE)
    path.write_bytes(content)
    return content


@pytest.mark.parametrize("size", [0, 1, LARGE, 2 * LARGE])
def test_comes_back_as_it_was(bucket, export, copy, size):
    """A file comes back byte for byte: empty, small, and too large for one request."""
    export.write_bytes(os.urandom(size))
    stored = upload(bucket, NAME, export)
    assert download(bucket, NAME, copy) == stored
    assert copy.read_bytes() == export.read_bytes()


def test_nothing_is_overwritten(bucket, export):
    """A name that is taken is FileExistsError, and what is there stays."""
    upload(bucket, NAME, export)
    export.write_bytes(b"another")
    with pytest.raises(FileExistsError, match="is there already"):
        upload(bucket, NAME, export)
    assert bucket.blob(NAME).download_as_bytes() == b"id,total\n1,30.10\n"


def test_large_file_overwrites_nothing(bucket, export):
    """That holds for a file that is sent in parts, too."""
    upload(bucket, NAME, export)
    make_large(export)
    with pytest.raises(FileExistsError):
        upload(bucket, NAME, export)
    assert bucket.blob(NAME).download_as_bytes() == b"id,total\n1,30.10\n"


def test_one_of_eight_writers_wins(bucket, tmp_path):
    """Eight writers with one name at the same moment: one stores, seven are told."""
    barrier = Barrier(8)

    def write(number: int) -> int | None:
        path = tmp_path / f"{number}"
        path.write_bytes(b"from writer %d" % number)
        barrier.wait(30)
        try:
            upload(bucket, NAME, path)
        except FileExistsError:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        (winner,) = [it for it in pool.map(write, range(8)) if it is not None]
    assert bucket.blob(NAME).download_as_bytes() == b"from writer %d" % winner


def test_replace_what_was_seen(bucket, export):
    """The generation that you saw is replaced; one that came later is not."""
    seen = upload(bucket, NAME, export)
    export.write_bytes(b"second")
    assert upload(bucket, NAME, export, replaces=seen) != seen
    export.write_bytes(b"third")
    with pytest.raises(FileExistsError):
        upload(bucket, NAME, export, replaces=seen)
    assert bucket.blob(NAME).download_as_bytes() == b"second"


def test_lost_answer(bucket, shaky, proxy, export):
    """The answer to an upload is lost: the client repeats it, is refused, and what is
    there turns out to be its own."""
    proxy.lose_answer = lambda: None
    stored = upload(shaky, NAME, export)
    uploads = [path for method, path in proxy.requests if method == "POST"]
    assert len(uploads) == 2
    bucket.blob(NAME).reload()
    assert bucket.get_blob(NAME).generation == stored


def test_lost_answer_and_another_writer(bucket, shaky, proxy, export):
    """If another has replaced the object before the repetition, theirs stays, and the
    caller is told."""
    proxy.lose_answer = lambda: bucket.blob(NAME).upload_from_string(b"theirs")
    with pytest.raises(FileExistsError):
        upload(shaky, NAME, export)
    assert bucket.blob(NAME).download_as_bytes() == b"theirs"


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_outage_is_waited_out(shaky, proxy, export, copy, status, monkeypatch):
    """Overloaded or unavailable: upload and download are repeated."""
    at_once = recipe.DEFAULT_RETRY.with_delay(initial=0.01, maximum=0.01)
    monkeypatch.setattr(recipe, "RETRY", at_once.with_timeout(30))
    proxy.failures = [status]
    upload(shaky, NAME, export)
    proxy.failures = [status]
    download(shaky, NAME, copy)
    assert copy.read_bytes() == export.read_bytes()


def test_outage_ends_in_an_error(shaky, proxy, export, copy, soon):
    """An outage that lasts is an error, and the destination is untouched."""
    proxy.failures = [503] * 99
    with pytest.raises(Exception, match="503"):
        upload(shaky, NAME, export)
    with pytest.raises(Exception, match="503"):
        download(shaky, NAME, copy)
    assert copy.read_bytes() == b"what was there before"
    assert list(copy.parent.iterdir()) == [copy]


def test_limits():
    """Five seconds to connect, sixty between two blocks, two minutes with retries."""
    assert (*recipe.TIMEOUT, recipe.RETRY.timeout) == (5, 60, 120)


def test_what_is_not_there(bucket, export, copy):
    """No such object, no such bucket, nothing to replace: NotFound."""
    with pytest.raises(NotFound):
        download(bucket, "nothing", copy)
    with pytest.raises(NotFound):
        upload(bucket.client.bucket("no-such-bucket"), NAME, export)
    with pytest.raises(NotFound):
        upload(bucket, NAME, export, replaces=1)
    assert copy.read_bytes() == b"what was there before"


def test_damage_on_the_way_up(bucket, shaky, proxy, export):
    """A file that is damaged on its way up is refused, and no object is left."""
    proxy.damage_request = (b"30.10", b"99.10")
    with pytest.raises(BadRequest, match="CRC32C"):
        upload(shaky, NAME, export)
    assert bucket.get_blob(NAME) is None


def test_damage_on_the_way_up_in_parts(bucket, shaky, proxy, export):
    """The same for a file that is sent in parts: the client compares, and deletes."""
    content = make_large(export)
    proxy.damage_request = (content[:32], bytes(32))
    with pytest.raises(DataCorruption):
        upload(shaky, NAME, export)
    assert bucket.get_blob(NAME) is None


def test_damage_on_the_way_down(shaky, proxy, bucket, export, copy):
    """What is damaged on its way down is an error, and the destination is untouched."""
    upload(bucket, NAME, export)
    proxy.damage_answer = (b"30.10", b"99.10")
    with pytest.raises(DataCorruption):
        download(shaky, NAME, copy)
    assert copy.read_bytes() == b"what was there before"


def test_download_is_resumed(shaky, proxy, bucket, export, copy):
    """A download that is cut goes on where it was."""
    content = make_large(export)
    upload(bucket, NAME, export)
    proxy.cut_answer_at = 1 << 20
    download(shaky, NAME, copy)
    assert copy.read_bytes() == content
    assert len(proxy.requests) == 2


def test_resumed_download_is_verified(shaky, proxy, bucket, export, copy):
    """Damage in a download that was cut and resumed is found too: the client alone does
    not see it."""
    content = make_large(export)
    upload(bucket, NAME, export)
    proxy.cut_answer_at, proxy.damage_answer = 1 << 20, (content[:32], bytes(32))
    with pytest.raises(OSError, match="the checksum does not match"):
        download(shaky, NAME, copy)
    assert copy.read_bytes() == b"what was there before"
    proxy.cut_answer_at, proxy.damage_answer = 1 << 20, (content[:32], bytes(32))
    with copy.open("wb") as file:
        shaky.blob(NAME).download_to_file(file)
    assert copy.read_bytes() == bytes(32) + content[32:]


def test_what_is_stored_compressed(bucket, export, copy):
    """An object with Content-Encoding gzip comes as it is stored, not unpacked."""
    packed = gzip.compress(b"id,total\n")
    blob = bucket.blob(NAME)
    blob.content_encoding = "gzip"
    blob.upload_from_string(packed)
    download(bucket, NAME, copy)
    assert copy.read_bytes() == packed


def there_and_back(url: str, bucket: str, name: str, folder: str) -> None:
    os.environ["STORAGE_EMULATOR_HOST"] = url
    with Client() as client:
        upload(client.bucket(bucket), name, Path(folder, name))
        download(client.bucket(bucket), name, Path(folder, f"{name} again"))


def test_memory_does_not_grow(environment, bucket, tmp_path):
    """A file of 50 MB takes no more memory than one of 18 MB, up and down."""
    for size in (18, 50):
        with (tmp_path / f"{size}").open("wb") as file:
            file.truncate(size * MB)
    where = environment["STORAGE_EMULATOR_HOST"], environment["STORAGE_BUCKET"]
    few, many = ((*where, f"{size}", str(tmp_path)) for size in (18, 50))
    assert memory_growth(there_and_back, few, many) < 16 * MB


def test_checksum(export):
    """The checksum is CRC32C, written as the service writes it."""
    export.write_bytes(b"123456789")
    assert crc32c(export) == "4waSgw=="  # 0xE3069283, the check value of CRC-32C


# --8<-- [start:wrong]
def upload_blob(bucket, name, path):
    blob = bucket.blob(name)
    blob.upload_from_filename(path)


def download_blob(bucket, name, path):
    blob = bucket.blob(name, chunk_size=1 << 20)
    blob.download_to_filename(path)


# --8<-- [end:wrong]


def test_often_copied_overwrites(bucket, export):
    """Often copied: a name that is taken is overwritten, without a word."""
    bucket.blob(NAME).upload_from_string(b"theirs")
    upload_blob(bucket, NAME, export)
    assert bucket.blob(NAME).download_as_bytes() == b"id,total\n1,30.10\n"


def test_often_copied_repeats_an_upload(bucket, shaky, proxy, export):
    """Often copied: the client repeats an upload whose answer was lost, and overwrites
    what another has written since."""
    proxy.lose_answer = lambda: bucket.blob(NAME).upload_from_string(b"theirs")
    upload_blob(shaky, NAME, export)
    assert bucket.blob(NAME).download_as_bytes() == b"id,total\n1,30.10\n"


def test_often_copied_takes_what_is_damaged(bucket, shaky, proxy, export, copy):
    """Often copied: with `chunk_size`, a download is not verified."""
    upload(bucket, NAME, export)
    proxy.damage_answer = (b"30.10", b"99.10")
    download_blob(shaky, NAME, copy)
    assert copy.read_bytes() == b"id,total\n1,99.10\n"


def test_often_copied_leaves_half_a_file(shaky, proxy, bucket, export, copy):
    """Often copied: what was at the destination is gone, even if nothing comes."""
    with pytest.raises(NotFound):
        download_blob(bucket, "nothing", copy)
    assert not copy.exists()
