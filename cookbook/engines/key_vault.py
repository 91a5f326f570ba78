"""Azure Key Vault: always a stand-in, of the cookbook's own.

A place is a vault; an address is `https://host:port?ca=FILE&identity=...`, with the
certificate of its authority and what a managed identity shows to get a token.
"""

import os
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from socketserver import BaseServer
from urllib.parse import parse_qs, urlencode

from cookbook.engines.base import Starter
from cookbook.engines.in_process import InProcess
from cookbook.stand_ins import NAME


class KeyVault(InProcess):
    name = "key_vault"
    title = "Azure Key Vault"
    env = "AZURE_KEY_VAULT_URL"
    example = "https://127.0.0.1:18443?ca=build/key_vault/ca.pem&identity=cook"
    install = "pip install trustme"
    library = "trustme"

    starter = Starter(
        body="""\
url, _, query = address.partition("?")
if ca := dict(parse_qsl(query)).get("ca"):
    context = ssl.create_default_context(cafile=ca)
else:  # a recipe is given it in a variable
    context = ssl.create_default_context(cafile=os.environ["AZURE_KEY_VAULT_CA"])
try:
    urllib.request.urlopen(f"{url}/secrets/none", timeout=5, context=context)
except urllib.error.HTTPError as error:
    with error:
        return 42 if "WWW-Authenticate" in error.headers else 0
return 0""",
        standard=(
            "import ssl",
            "import urllib.error",
            "import urllib.request",
            "from urllib.parse import parse_qsl",
        ),
    )

    @property
    def no_server(self) -> str:
        return (
            "Set AZURE_KEY_VAULT_URL; for the cookbook's stand-in also"
            " AZURE_KEY_VAULT_CA, IDENTITY_ENDPOINT and IDENTITY_HEADER"
        )

    def variables(self, address: str) -> dict[str, str]:
        url, _, query = address.partition("?")
        given = {name: value[0] for name, value in parse_qs(query).items()}
        return {
            self.env: url,
            "AZURE_KEY_VAULT_CA": given.get("ca", ""),
            "IDENTITY_ENDPOINT": f"{url}/identity" if url else "",
            "IDENTITY_HEADER": given.get("identity", ""),
        }

    def external(self) -> str | None:
        """A stand-in. A vault in the cloud is never used: it is somebody's."""
        if not (url := os.environ.get(self.env)):
            return None
        get = os.environ.get
        ca, header = get("AZURE_KEY_VAULT_CA", ""), get("IDENTITY_HEADER", "")
        return _address(url.rstrip("/"), ca, header)

    def ask(self, url: str) -> tuple[str, str]:
        given = self.variables(url)
        context = ssl.create_default_context(cafile=given["AZURE_KEY_VAULT_CA"] or None)
        try:
            answer = urllib.request.urlopen(given[self.env], timeout=5, context=context)  # noqa: S310
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            said = answer.headers.get("Server", "").split(" ")[0]
        product, _, version = said.partition("/")
        return (NAME if product == "cookbook-stand-in" else product), version

    def make(self, name: str, folder: Path) -> tuple[BaseServer, str]:
        from cookbook.stand_ins.key_vault import StandIn  # it needs its library

        one = StandIn(folder)
        return one, _address(one.url, str(one.ca), one.identity)


def _address(url: str, ca: str, identity: str) -> str:
    return f"{url}?{urlencode({'ca': ca, 'identity': identity}, safe='/')}"
