"""Azure Blob Storage: Azurite as its stand-in. A place is a prefix of containers.

One address holds what recipes are given in four variables:
`http://cook:KEY@127.0.0.1:10000/cook?container=cookbook`.
"""

import base64
import json
import os
import re
import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit, urlunsplit

from cookbook import fetch
from cookbook.engines import process
from cookbook.engines.base import Engine, Program, Server, Starter, on_path

if TYPE_CHECKING:  # drivers are imported late: not every extra is installed
    from azure.storage.blob import BlobServiceClient

_VERSION = "3.36.0"  # as the image in docker-compose.yml
_LOCK = Path(__file__).with_name("azurite.package-lock.json")
_NODE = 20
_ACCOUNT = "cook"


class Azurite(Engine):
    name = "azurite"
    title = "Azure Blob Storage"
    env = "AZURE_STORAGE_BLOB_ENDPOINT"
    example = "http://cook:Y29vaw%3D%3D@127.0.0.1:10000/cook?container=cookbook"
    port = 10000
    install = f"with Node.js from {_NODE} on: cookbook fetch azurite"
    fetches = f"Azurite {_VERSION} from npm, 200 MB; runs on Node.js {_NODE}"

    starter = Starter(
        body="""\
# A recipe is given the pieces in variables; a test, all of them in one address.
parts = urlsplit(address)
key = unquote(parts.password or "") or os.environ["AZURE_STORAGE_KEY"]
account = parts.username or os.environ["AZURE_STORAGE_ACCOUNT"]
url = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
credential = AzureNamedKeyCredential(account, key)
with BlobServiceClient(url, credential) as client:
    return 42 if client.get_service_properties() else 0""",
        driver="from azure.core.credentials import AzureNamedKeyCredential\n"
        "from azure.storage.blob import BlobServiceClient",
        dependency="azure-storage-blob>=12.27",
        standard=("from urllib.parse import unquote, urlsplit",),
    )

    @property
    def no_server(self) -> str:
        return (
            "Set AZURE_STORAGE_BLOB_ENDPOINT, AZURE_STORAGE_ACCOUNT, AZURE_STORAGE_KEY"
            " and AZURE_STORAGE_CONTAINER, for example to what .env.example says"
            " after `docker compose up -d --wait azurite`"
        )

    def variables(self, address: str) -> dict[str, str]:
        parts = urlsplit(address)
        (container,) = parse_qs(parts.query).get("container", ("",))
        netloc = parts.netloc.rpartition("@")[2]
        return {
            self.env: urlunsplit((parts.scheme, netloc, parts.path, "", "")),
            "AZURE_STORAGE_ACCOUNT": unquote(parts.username or ""),
            "AZURE_STORAGE_KEY": unquote(parts.password or ""),
            "AZURE_STORAGE_CONTAINER": container,
        }

    def external(self) -> str | None:
        if not (url := os.environ.get(self.env)):
            return None
        account, key, container = (
            os.environ.get(name, "") for name in list(self.variables(""))[1:]
        )
        return _address(url, account, key, container)

    @property
    def is_fetched(self) -> bool:
        lock = self.fetched / "package-lock.json"
        return lock.is_file() and lock.read_bytes() == _LOCK.read_bytes()

    def native(self) -> Program | None:
        node = on_path("node")
        number = re.search(r"\d+", node.version) if node else None
        if not node or not number or int(number[0]) < _NODE or not self.is_fetched:
            return None
        # As ourselves: another user may not look into the directory of what is fetched.
        said = f"Azurite {_VERSION} on Node.js {node.version}"
        return Program(node.path, said, as_ourselves=True)

    def fetch(self, folder: Path) -> None:
        npm = fetch.tool("npm", f"install Node.js {_NODE} or later")
        shutil.copy(_LOCK, folder / "package-lock.json")
        wanted = {"private": True, "dependencies": {"azurite": _VERSION}}
        (folder / "package.json").write_text(json.dumps(wanted), "utf-8")
        # No script of any package runs; the lock has the hash of each.
        install = ("ci", "--ignore-scripts", "--no-audit", "--no-fund")
        fetch.run([npm, *install, "--loglevel=error"], folder)

    def prepare(self, program: Program, folder: Path, password: str) -> None:
        process.secret_file(folder / "accounts", f"{_ACCOUNT}:{_key(password)}")

    def command(self, program: Program, folder: Path, port: int) -> list[str]:
        main = self.fetched / "node_modules/azurite/dist/src/blob/main.js"
        return [
            *(str(program.path), str(main), "--blobHost", "127.0.0.1"),
            *("--blobPort", str(port), "--inMemoryPersistence", "--disableTelemetry"),
            # The client asks for a version of the protocol that Azurite never heard of.
            *("--skipApiVersionCheck", "--silent"),
        ]

    def environment(self, folder: Path, port: int) -> dict[str, str]:
        accounts = (folder / "accounts").read_text("utf-8")
        return {"AZURITE_ACCOUNTS": accounts, "HOME": str(folder / "data")}

    def url(self, folder: Path, port: int, password: str) -> str:
        here = f"http://127.0.0.1:{port}/{_ACCOUNT}"
        return _address(here, _ACCOUNT, _key(password), "")

    def identify(self, url: str) -> tuple[str, str]:
        with closing(_connect(url)) as client:
            said: list[str] = []
            client.get_account_information(  # what needs the key
                raw_response_hook=lambda it: said.append(
                    it.http_response.headers["Server"]
                )
            )
        product, _, version = said[0].split()[0].partition("/")
        if product == "Azurite-Blob":
            return "Azurite", version
        return (self.title if product == "Windows-Azure-Blob" else product), version

    def create_place(self, server: Server, name: str) -> str:
        url, account, key, _ = self.variables(server.url).values()
        return _address(url, account, key, name.replace("_", "-"))

    def drop_place(self, server: Server, url: str) -> None:
        """Delete the containers whose names start with the place's, and their blobs."""
        prefix = self.variables(url)["AZURE_STORAGE_CONTAINER"]
        with closing(_connect(server.url)) as client:
            for container in client.list_containers(name_starts_with=prefix):
                client.delete_container(container.name)


def _key(password: str) -> str:
    return base64.b64encode(password.encode()).decode()


def _address(url: str, account: str, key: str, container: str) -> str:
    parts = urlsplit(url)
    netloc = f"{quote(account)}:{quote(key, safe='')}@{parts.netloc}"
    query = urlencode({"container": container}) if container else ""
    return urlunsplit((parts.scheme, netloc, parts.path, query, ""))


def _connect(address: str) -> "BlobServiceClient":
    from azure.core.credentials import AzureNamedKeyCredential
    from azure.storage.blob import BlobServiceClient

    url, account, key, _ = Azurite().variables(address).values()
    return BlobServiceClient(
        url,
        AzureNamedKeyCredential(account, key),
        retry_total=0,
        connection_timeout=5,
        read_timeout=10,
    )
