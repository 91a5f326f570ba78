"""Azure Key Vault: always a stand-in, of the cookbook's own.

It runs in a thread of this process. A place is a stand-in, and so a vault; an address
is `https://host:port?ca=FILE&identity=...`, with the certificate of its authority and
what a managed identity shows to get a token.
"""

import contextlib
import importlib.util
import os
import shutil
import ssl
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

from cookbook.engines import process
from cookbook.engines.base import Engine, Program, Server, Starter

if TYPE_CHECKING:  # its library is imported late: not every extra is installed
    from cookbook.stand_ins.key_vault import StandIn

_running: dict[str, "StandIn"] = {}  # by address


class KeyVault(Engine):
    name = "key_vault"
    title = "Azure Key Vault"
    env = "AZURE_KEY_VAULT_URL"
    example = "https://127.0.0.1:18443?ca=build/key_vault/ca.pem&identity=cook"
    install = "pip install trustme"

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

    def embedded(self) -> Program | None:
        if not importlib.util.find_spec("trustme"):
            return None
        return Program(Path(sys.executable), " ".join(self.identify("")))

    def identify(self, url: str) -> tuple[str, str]:
        from cookbook.stand_ins.key_vault import NAME, VERSION

        if not url:
            return NAME, VERSION
        given = self.variables(url)
        if urlsplit(url).hostname != "127.0.0.1":
            raise ValueError("it is not on loopback")
        context = ssl.create_default_context(cafile=given["AZURE_KEY_VAULT_CA"] or None)
        try:
            answer = urllib.request.urlopen(given[self.env], timeout=5, context=context)  # noqa: S310
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            said = answer.headers.get("Server", "").split(" ")[0]
        product, _, version = said.partition("/")
        return (NAME if product == "cookbook-stand-in" else product), version

    def create_place(self, server: Server, name: str) -> str:
        """Start one, or take the one that the environment names: it is not emptied."""
        if server.url:
            return server.url
        from cookbook.stand_ins.key_vault import StandIn

        folder = process.new_folder(self.name)
        folder.chmod(0o700)
        one = StandIn(folder)
        thread = threading.Thread(target=one.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        address = _address(one.url, str(one.ca), one.identity)
        _running[address] = one
        return address

    def drop_place(self, server: Server, url: str) -> None:
        with contextlib.suppress(KeyError):
            one = _running.pop(str(url))
            one.shutdown()
            one.server_close()
            shutil.rmtree(one.ca.parent, ignore_errors=True)


def _address(url: str, ca: str, identity: str) -> str:
    return f"{url}?{urlencode({'ca': ca, 'identity': identity}, safe='/')}"


def behind(address: str) -> "StandIn":
    """The stand-in at that address, for tests that look into it."""
    return _running[str(address)]
