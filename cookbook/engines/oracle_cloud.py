"""Oracle Cloud Infrastructure: always a stand-in, of the cookbook's own.

It runs in a thread of this process. A place is a stand-in, and so a tenancy; an address
is `http://host:port?config=FILE&secret=ID`, with the configuration file of the SDK and
the secret that is in its vault.
"""

import contextlib
import importlib.util
import json
import os
import shutil
import sys
import threading
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, urlsplit

from cookbook.engines import process
from cookbook.engines.base import Engine, Program, Server, Starter

if TYPE_CHECKING:  # its library is imported late: not every extra is installed
    from cookbook.stand_ins.oracle_cloud import StandIn

_running: dict[str, "StandIn"] = {}  # by address


class OracleCloud(Engine):
    name = "oracle_cloud"
    title = "Oracle Cloud Infrastructure"
    env = "OCI_ENDPOINT"
    example = (
        "http://127.0.0.1:18090?config=build/oracle_cloud/config"
        "&secret=ocid1.vaultsecret.oc1..cookbook"
    )
    install = "pip install cryptography"

    starter = Starter(
        body="""\
endpoint, _, query = address.partition("?")
config = oci.config.from_file(parse_qs(query)["config"][0])
client = oci.object_storage.ObjectStorageClient(config, service_endpoint=endpoint)
return 42 if client.get_namespace().data else 0""",
        driver="import oci",
        dependency="oci>=2.160",
        standard=("from urllib.parse import parse_qs",),
    )

    @property
    def no_server(self) -> str:
        return "Set OCI_CONFIG_FILE (~/.oci/config), and for a stand-in OCI_ENDPOINT"

    def variables(self, address: str) -> dict[str, str]:
        endpoint, _, query = address.partition("?")
        given = {name: value[0] for name, value in parse_qs(query).items()}
        return {
            self.env: endpoint,
            "OCI_CONFIG_FILE": given.get("config", ""),
            "OCI_SECRET_ID": given.get("secret", ""),
        }

    def external(self) -> str | None:
        """A stand-in. An account in the cloud is never used: it costs money."""
        if not (endpoint := os.environ.get(self.env)):
            return None
        get = os.environ.get
        return _address(endpoint, get("OCI_CONFIG_FILE", ""), get("OCI_SECRET_ID", ""))

    def embedded(self) -> Program | None:
        if not importlib.util.find_spec("cryptography"):
            return None
        return Program(Path(sys.executable), " ".join(self.identify("")))

    def identify(self, url: str) -> tuple[str, str]:
        if not url:
            from cookbook.stand_ins.oracle_cloud import NAME, VERSION

            return NAME, VERSION
        address = self.variables(url)[self.env]
        if urlsplit(address).hostname != "127.0.0.1":
            raise ValueError("it is not on loopback")
        with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310
            said = json.load(answer)
        return said["stand_in"], said["version"]

    def create_place(self, server: Server, name: str) -> str:
        """Start one, or take the one that the environment names: it is not emptied."""
        if server.url:
            return server.url
        from cookbook.stand_ins.oracle_cloud import StandIn

        folder = process.new_folder(self.name)
        folder.chmod(0o700)
        one = StandIn(name.replace("_", ""), folder)
        thread = threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        address = _address(one.url, str(one.config), one.secret_id)
        _running[address] = one
        return address

    def drop_place(self, server: Server, url: str) -> None:
        with contextlib.suppress(KeyError):
            one = _running.pop(str(url))
            one.shutdown()
            one.server_close()
            shutil.rmtree(one.config.parent, ignore_errors=True)


def _address(endpoint: str, config: str, secret: str) -> str:
    return f"{endpoint}?config={quote(config)}&secret={quote(secret)}"


def behind(address: str) -> "StandIn":
    """The stand-in at that address, for tests that look into it."""
    return _running[str(address)]
