"""Oracle Cloud Infrastructure: always a stand-in, of the cookbook's own.

A place is a tenancy; an address is `http://host:port?config=FILE&secret=ID`, with the
configuration file of the SDK and the secret that is in its vault.
"""

import json
import os
import urllib.request
from pathlib import Path
from socketserver import BaseServer
from urllib.parse import parse_qs, quote

from cookbook.engines.base import Starter
from cookbook.engines.in_process import InProcess


class OracleCloud(InProcess):
    name = "oracle_cloud"
    title = "Oracle Cloud Infrastructure"
    env = "OCI_ENDPOINT"
    example = (
        "http://127.0.0.1:18090?config=build/oracle_cloud/config"
        "&secret=ocid1.vaultsecret.oc1..cookbook"
    )
    install = "pip install cryptography"
    library = "cryptography"

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

    def ask(self, url: str) -> tuple[str, str]:
        with urllib.request.urlopen(self.variables(url)[self.env], timeout=5) as answer:  # noqa: S310
            said = json.load(answer)
        return said["stand_in"], said["version"]

    def make(self, name: str, folder: Path) -> tuple[BaseServer, str]:
        from cookbook.stand_ins.oracle_cloud import StandIn  # it needs its library

        one = StandIn(name.replace("_", ""), folder)
        return one, _address(one.url, str(one.config), one.secret_id)


def _address(endpoint: str, config: str, secret: str) -> str:
    return f"{endpoint}?config={quote(config)}&secret={quote(secret)}"
