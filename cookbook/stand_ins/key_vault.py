"""The secrets of Azure Key Vault, in part, and the managed identity that may read them.

HTTPS, as the REST reference of the data plane has it:
https://learn.microsoft.com/rest/api/keyvault/secrets/operation-groups

`python -m cookbook.stand_ins.key_vault FOLDER [PORT]` serves until it is ended; the
certificate of its authority is written to FOLDER.
"""

import json
import re
import secrets
import socket
import ssl
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import trustme

from cookbook.stand_ins import version_of
from cookbook.stand_ins.http_server import LocalServer

VERSION = version_of("key_vault")
_VERSIONS = {*(f"7.{minor}" for minor in range(7)), "2025-07-01", "2026-04-01"}
_LONGEST = 25 * 1024  # bytes of a value
_TENANT = "https://login.microsoftonline.com/00000000-0000-0000-0000-000000000000"


class Refusal(Exception):
    """An answer that is an error, with the codes that the service gives."""

    def __init__(self, status: int, code: str, message: str, inner: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.headers: dict[str, str] = {}
        self.body: dict[str, Any] = {"error": {"code": code, "message": message}}
        if inner:
            self.body["error"]["innererror"] = {"code": inner}


@dataclass
class Request:
    method: str
    path: str  # with the query
    headers: dict[str, str]  # names in lower case
    body: bytes = field(repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.path)
        self.names = [unquote(part) for part in parts.path.split("/")[1:] if part]
        self.query = {name: value[0] for name, value in parse_qs(parts.query).items()}

    def json(self) -> dict[str, Any]:
        try:
            return {**json.loads(self.body)}
        except (ValueError, TypeError):
            raise _bad("The request body is not a JSON object") from None


class StandIn(LocalServer):
    """Serves one vault, and one identity that may do in it what `rights` says."""

    def __init__(self, folder: Path, port: int = 0) -> None:
        super().__init__(Handler, port)
        authority = trustme.CA(organization_name="Python Database Cookbook")
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(self._tls)
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca))
        self.url = f"https://127.0.0.1:{self.server_port}"
        # A client gives its token to a vault in the domain of the resource, as in
        # NAME.vault.azure.net; of an address, the end is taken for its domain.
        self.resource = f"https://0.0.1:{self.server_port}"
        self.identity = secrets.token_urlsafe(16)  # who has it, gets tokens
        self.tokens: dict[str, float] = {}  # until when each is good
        self.lasts = 86_400  # seconds, a token
        self.rights = {"get", "set", "delete", "purge"}
        self.secrets: dict[str, list[dict[str, Any]]] = {}  # the newest version last
        self.deleted: dict[str, list[dict[str, Any]]] = {}
        self.requests: list[Request] = []
        # Before the answer, for tests: raise Refusal.
        self.interfere: Callable[[Request], None] = lambda _: None

    def get_request(self) -> tuple[socket.socket, Any]:
        plain, address = super().get_request()
        # The handshake waits for the thread of the connection.
        tls = self._tls.wrap_socket(
            plain, server_side=True, do_handshake_on_connect=False
        )
        return tls, address

    def answer(self, request: Request) -> Any:
        self.requests.append(request)
        self.interfere(request)
        match request.method, request.names:
            case "GET", ["identity"]:
                return self._give_token(request)
            case method, ["secrets" | "deletedsecrets" as kind, *names]:
                self._let_in(request)
                return self._do(request, f"{method} {kind}", *names)
        raise Refusal(404, "NotFound", "There is nothing of that name here")

    def _give_token(self, request: Request) -> dict[str, str]:
        """As App Service does: https://learn.microsoft.com/azure/app-service/overview-managed-identity"""
        given = request.headers.get("x-identity-header", "")
        if not secrets.compare_digest(given.encode(), self.identity.encode()):
            raise Refusal(401, "Unauthorized", "The header is not the identity's")
        if request.query.get("resource") != self.resource:
            raise _bad("There is no such resource")
        token = secrets.token_urlsafe(900)
        self.tokens[token] = ends = time.time() + self.lasts
        return {
            "access_token": token,
            "expires_on": str(int(ends)),
            "resource": self.resource,
            "token_type": "Bearer",
        }

    def _let_in(self, request: Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme == "Bearer" and self.tokens.get(token, 0) > time.time():
            if request.query.get("api-version") in _VERSIONS:
                return
            raise _bad("The api-version is missing, or is not one that exists")
        refusal = Refusal(401, "Unauthorized", "AKV10000: Request is missing a Bearer")
        challenge = f'Bearer authorization="{_TENANT}", resource="{self.resource}"'
        refusal.headers["WWW-Authenticate"] = challenge
        raise refusal

    def _do(
        self, request: Request, what: str, name: str = "", version: str = ""
    ) -> Any:
        if not re.fullmatch(r"[0-9a-zA-Z-]{1,127}", name):
            raise _bad("The name of a secret has letters, digits and hyphens")
        match what:
            case "GET secrets":
                self._need("get")
                found = self._find(name, version)
                if not found["attributes"]["enabled"]:
                    said = "Operation get is not allowed on a disabled secret."
                    raise Refusal(403, "Forbidden", said, "SecretDisabled")
                return found
            case "PUT secrets" if not version:
                self._need("set")
                return self._add(name, request.json())
            case "PATCH secrets":
                self._need("set")
                found = self._find(name, version)
                found["attributes"] |= request.json().get("attributes") or {}
                return {key: it for key, it in found.items() if key != "value"}
            case "DELETE secrets" if not version:
                self._need("delete")
                self._find(name, "")
                self.deleted[name] = self.secrets.pop(name)
                return self._show_deleted(name)
            case "GET deletedsecrets" if name in self.deleted:
                return self._show_deleted(name)
            case "DELETE deletedsecrets" if name in self.deleted:
                self._need("purge")
                del self.deleted[name]
                return None
        raise Refusal(404, "SecretNotFound", f"Deleted Secret not found: {name}")

    def _need(self, right: str) -> None:
        if right not in self.rights:
            said = "Caller is not authorized to perform action on resource."
            raise Refusal(403, "Forbidden", said, "ForbiddenByRbac")

    def _find(self, name: str, version: str) -> dict[str, Any]:
        """Without a version the newest one, in whatever state it is."""
        found = self.secrets.get(name, [])
        matching = [it for it in found if it["id"].endswith(f"/{version}")]
        if newest := (matching if version else found)[-1:]:
            return newest[0]
        said = f"A secret with (name/id) {name}{version and '/'}{version} was not found"
        raise Refusal(404, "SecretNotFound", f"{said} in this key vault.")

    def _add(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        value, now = given.get("value"), int(time.time())
        if not isinstance(value, str) or len(value.encode()) > _LONGEST:
            raise _bad("The value is no string, or too long")
        if name in self.deleted:
            said = f"Secret {name} is currently in a deleted but recoverable state"
            raise Refusal(409, "Conflict", said, "ObjectIsDeletedButRecoverable")
        made = {
            "value": value,
            "id": f"{self.url}/secrets/{name}/{secrets.token_hex(16)}",
            **{key: given[key] for key in ("contentType", "tags") if given.get(key)},
            "attributes": {
                **{"enabled": True, **(given.get("attributes") or {})},
                **{"created": now, "updated": now},
                **{"recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90},
            },
        }
        self.secrets.setdefault(name, []).append(made)
        return made

    def _show_deleted(self, name: str) -> dict[str, Any]:
        newest = self.deleted[name][-1]
        now = int(time.time())
        return {
            **{key: it for key, it in newest.items() if key != "value"},
            "recoveryId": f"{self.url}/deletedsecrets/{name}",
            **{"deletedDate": now, "scheduledPurgeDate": now + 90 * 86_400},
        }


def _bad(said: str) -> Refusal:
    return Refusal(400, "BadParameter", said)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = f"cookbook-stand-in/{VERSION}"
    server: StandIn

    def _answer(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, self.rfile.read(length))
        status, more = 200, {}
        try:
            body = self.server.answer(request)
        except Refusal as refusal:
            status, more, body = refusal.status, refusal.headers, refusal.body
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(status if content else 204)
        more |= {"content-type": "application/json; charset=utf-8"} if content else {}
        for name, value in (more | {"content-length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_PATCH = do_DELETE = _answer

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what would be shown might be secret."""


def main() -> None:
    folder, port = Path(sys.argv[1]).absolute(), int((sys.argv[2:] or ["0"])[0])
    folder.mkdir(parents=True, exist_ok=True)
    with StandIn(folder, port) as server:
        print(f"AZURE_KEY_VAULT_URL={server.url}\nAZURE_KEY_VAULT_CA={server.ca}")
        print(f"IDENTITY_ENDPOINT={server.url}/identity")
        print(f"IDENTITY_HEADER={server.identity}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
