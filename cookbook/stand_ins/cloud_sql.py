"""Google Cloud SQL for PostgreSQL: its admin API, and its TLS proxy before a server.

It runs in the process that needs it, and does three things of the service:

- It gives tokens to who signs with the key of a service account, for the scopes that
  were asked for.
- With a token for the administration it tells the instance's address and authority, and
  signs a public key: a certificate for one hour. It refuses other projects and regions.
- It takes TLS 1.3 connections on port 3307 from who holds such a certificate, and
  passes them on. Where the certificate was made with a token for logins, the user that
  the token belongs to is let in without a password, and no other.
"""

import asyncio
import base64
import contextlib
import datetime
import json
import random
import secrets
import socket
import ssl
import tempfile
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID
from scramp import ScramClient

from cookbook.stand_ins import version_of
from cookbook.stand_ins.http_server import LocalServer

VERSION = version_of("cloud_sql")
PORT = 3307  # the connector knows no other
USER = "app@cookbook.iam"  # the database's name for the service account
EMAIL = f"{USER}.gserviceaccount.com"
_ADMIN = "https://www.googleapis.com/auth/sqlservice.admin"
_LOGIN = "https://www.googleapis.com/auth/sqlservice.login"
_AUDIENCE = "https://oauth2.googleapis.com/token"  # whatever the key file says
_SSL_REQUEST = (80877103).to_bytes(4)
_HOUR = datetime.timedelta(hours=1)


class RefusedError(Exception):
    """What the service would answer in place of what was asked for."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(said)
        self.status = status


class Authority:
    """Signs certificates. Each instance has one of its own."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self.sign(self._key.public_key(), name, authority=True)

    def sign(
        self,
        key: Any,
        name: str,
        authority: bool = False,
        lasts: datetime.timedelta = _HOUR,
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + (24 * _HOUR if authority else lasts))
            .add_extension(x509.BasicConstraints(authority, None), critical=True)
            .sign(self._key, hashes.SHA256())
        )


def _own_socket() -> socket.socket:
    """The port that the connector knows, at an address of loopback that is free."""
    for _ in range(20):
        address = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.1"  # noqa: S311
        with contextlib.suppress(OSError):
            return socket.create_server((address, PORT))
    return socket.create_server(("127.0.0.1", PORT))  # macOS has no other


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _private(key: Any) -> str:
    return key.private_bytes(  # type: ignore[no-any-return]
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()


@dataclass
class Instance:
    """An instance before the PostgreSQL server of an address."""

    postgresql: str = field(repr=False)
    name: str = "cookbook:europe-west1:orders"
    password: str = field(default="", repr=False)  # of USER; nobody else knows it
    lasts: datetime.timedelta = _HOUR  # of an ephemeral certificate
    requests: list[str] = field(default_factory=list)  # to the API
    connections: int = 0  # to the proxy, that got past TLS
    open: int = 0  # of them, now

    def __post_init__(self) -> None:
        self.authority = Authority("Google Cloud SQL Server CA")
        self.clients = Authority("Google Cloud SQL Client CA")
        self._account = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.tokens: dict[str, tuple[str, float]] = {}  # to its scope, and its end
        self._logins: set[int] = set()  # serial numbers of certificates for logins
        self._api = LocalServer(_handler(self))
        self.url = f"http://127.0.0.1:{self._api.server_address[1]}"
        self._socket = _own_socket()
        self.address = self._socket.getsockname()[0]
        self._loop = asyncio.new_event_loop()
        self._threads = [
            threading.Thread(target=self._api.serve_forever, args=(0.01,), daemon=True),
            threading.Thread(target=self._loop.run_forever, daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(30)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._api.shutdown()
        for thread in self._threads:
            thread.join()
        self._loop.close()
        self._api.server_close()

    def key(self) -> dict[str, str]:
        """The key of the service account, as Google writes it into a file."""
        return {
            "type": "service_account",
            "project_id": self.name.partition(":")[0],
            "private_key_id": "1",
            "private_key": _private(self._account),
            "client_email": EMAIL,
            "token_uri": f"{self.url}/token",
        }

    # The API

    def token(self, assertion: str) -> dict[str, Any]:
        signed, _, signature = assertion.rpartition(".")
        try:
            how = (padding.PKCS1v15(), hashes.SHA256())
            key = self._account.public_key()
            key.verify(_decoded(signature), signed.encode(), *how)
            claims = json.loads(_decoded(signed.partition(".")[2]))
        except (InvalidSignature, ValueError):
            raise RefusedError(400, "invalid_grant") from None
        now = time.time()
        right = claims["iss"] == EMAIL and claims["aud"] == _AUDIENCE
        if not right or not claims["iat"] - 60 <= now < claims["exp"]:
            raise RefusedError(400, "invalid_grant")
        token = secrets.token_urlsafe(32)
        self.tokens[token] = claims["scope"], now + 3599
        return {"access_token": token, "expires_in": 3599, "token_type": "Bearer"}

    def _check(self, token: str, scope: str) -> None:
        scopes, until = self.tokens.get(token, ("", 0.0))
        if time.time() >= until:
            raise RefusedError(401, "Request had invalid authentication credentials.")
        if scope not in scopes.split():
            said = "Request had insufficient authentication scopes."
            raise RefusedError(403, said)

    def ask(self, method: str, path: str, bearer: str, body: Any) -> dict[str, Any]:
        self._check(bearer, _ADMIN)
        project, region, instance = self.name.split(":")
        here = f"/sql/v1beta4/projects/{project}/instances/{instance}"
        if (method, path) == ("GET", f"{here}/connectSettings"):
            return {
                "kind": "sql#connectSettings",
                "serverCaCert": {"cert": _pem(self.authority.certificate)},
                "ipAddresses": [{"type": "PRIMARY", "ipAddress": self.address}],
                "region": region,
                "databaseVersion": "POSTGRES_18",
                "backendType": "SECOND_GEN",
            }
        if (method, path) != ("POST", f"{here}:generateEphemeralCert"):
            raise RefusedError(404, "The Cloud SQL instance does not exist.")
        key = serialization.load_pem_public_key(body["public_key"].encode())
        certificate = self.clients.sign(key, EMAIL, lasts=self.lasts)
        if "access_token" in body:
            self._check(body["access_token"], _LOGIN)
            self._logins.add(certificate.serial_number)
        return {"ephemeralCert": {"cert": _pem(certificate)}}

    # The proxy

    async def _listen(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.authority.sign(key.public_key(), self.name)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=_pem(self.clients.certificate))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "server.pem")
            file.touch(mode=0o600)
            file.write_text(_private(key) + _pem(certificate))
            context.load_cert_chain(file)
        self._server = await asyncio.start_server(
            self._serve, sock=self._socket, ssl=context
        )

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(
        self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter
    ) -> None:
        self.connections += 1
        self.open += 1
        parts = urlsplit(self.postgresql)
        to_server = None
        try:
            server, to_server = await asyncio.open_connection(
                parts.hostname, parts.port
            )
            found = to_client.get_extra_info("ssl_object").getpeercert(binary_form=True)
            serial = x509.load_der_x509_certificate(found).serial_number
            if serial in self._logins:
                await self._log_in(client, to_client, server, to_server)
            await asyncio.gather(_pump(client, to_server), _pump(server, to_client))
        except (OSError, asyncio.IncompleteReadError, RefusedError):
            pass
        finally:
            self.open -= 1
            for writer in filter(None, (to_client, to_server)):
                writer.close()

    async def _log_in(
        self,
        client: asyncio.StreamReader,
        to_client: asyncio.StreamWriter,
        server: asyncio.StreamReader,
        to_server: asyncio.StreamWriter,
    ) -> None:
        """Log the token's user in, in place of a password."""
        start = b""
        while start[:4] in (b"", _SSL_REQUEST):
            if start:  # a driver that asks for TLS, though there is TLS around it
                to_client.write(b"N")
            size = await client.readexactly(4)
            start = await client.readexactly(int.from_bytes(size) - 4)
        words = start[4:].split(b"\0")
        user = dict(zip(words[::2], words[1::2], strict=False)).get(b"user", b"")
        if user.decode() != USER:
            said = f"Cloud SQL IAM user authentication failed for {user.decode()!r}"
            fields = ["SFATAL", "VFATAL", "C28000", f"M{said}", ""]
            to_client.write(_message(b"E", "\0".join(fields).encode() + b"\0"))
            await to_client.drain()
            raise RefusedError(401, said)
        to_server.write(size + start)
        scram = ScramClient(["SCRAM-SHA-256"], USER, self.password)
        while (answer := await _read(server))[0] == b"R":
            kind, rest = int.from_bytes(answer[1][:4]), answer[1][4:]
            if kind == 10:
                first = scram.get_client_first().encode()
                asked = b"SCRAM-SHA-256\0" + len(first).to_bytes(4) + first
                to_server.write(_message(b"p", asked))
            elif kind == 11:
                scram.set_server_first(rest.decode())
                to_server.write(_message(b"p", scram.get_client_final().encode()))
            elif kind == 12:
                scram.set_server_final(rest.decode())
            else:
                to_client.write(_message(b"R", answer[1]))  # logged in
        to_client.write(_message(*answer))


async def _read(server: asyncio.StreamReader) -> tuple[bytes, bytes]:
    kind, size = await server.readexactly(1), await server.readexactly(4)
    return kind, await server.readexactly(int.from_bytes(size) - 4)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4) + body


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while block := await source.read(65536):
            target.write(block)
            await target.drain()
    finally:
        target.close()


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _handler(instance: Instance) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            instance.requests.append(f"{self.command} {self.path}")
            status, said = 200, {}
            try:
                if self.path == "/token":
                    said = instance.token(parse_qs(body.decode())["assertion"][0])
                else:
                    bearer = (self.headers.get("Authorization") or "").partition(" ")[2]
                    asked = json.loads(body or b"{}")
                    said = instance.ask(self.command, self.path, bearer, asked)
            except RefusedError as error:
                status = error.status
                said = {"error": {"code": status, "message": str(error)}}
                if self.path == "/token":
                    said = {"error": str(error)}
            except (KeyError, ValueError):
                status, said = 400, {"error": {"code": 400, "message": "Bad request."}}
            answer = json.dumps(said).encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            pass

        do_GET = do_POST = _answer

    return Handler
