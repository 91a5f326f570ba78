"""Object Storage, Vault and Secret Retrieval of Oracle Cloud Infrastructure, in part.

Each request must be signed with the API key, as the services ask for it:
https://docs.oracle.com/iaas/Content/API/Concepts/signingrequests.htm

`python -m cookbook.stand_ins.oracle_cloud FOLDER [PORT]` serves until it is ended; the
key and the configuration file for it are made in FOLDER.
"""

import email.utils
import hashlib
import json
import re
import secrets
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from cookbook.stand_ins import NAME, version_of
from cookbook.stand_ins.http_server import LocalServer

VERSION = version_of("oracle_cloud")
_SKEW = 300  # seconds between its clock and the client's
_REGION = "eu-frankfurt-1"


class Refusal(Exception):
    """An answer that is an error, with the code that the service gives."""

    def __init__(self, status: int, code: str, message: str = "no") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@dataclass
class Answer:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Stored:
    """An object, or a part of one."""

    content: bytes
    headers: dict[str, str]  # what comes back with it
    etag: str = field(default_factory=lambda: secrets.token_hex(16))


@dataclass
class Upload:
    name: str
    headers: dict[str, str]
    parts: dict[int, Stored] = field(default_factory=dict)


@dataclass
class Bucket:
    objects: dict[str, Stored] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    shared: dict[str, dict[str, str]] = field(default_factory=dict)  # by access URI


@dataclass
class Secret:
    versions: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Request:
    method: str
    path: str  # with the query
    headers: dict[str, str]  # names in lower case
    body: bytes

    def __post_init__(self) -> None:
        parts = urlsplit(self.path)
        self.names = [unquote(part) for part in parts.path.split("/")[1:]]
        self.query = {name: value[0] for name, value in parse_qs(parts.query).items()}

    def json(self) -> dict[str, Any]:
        given: dict[str, Any] = json.loads(self.body)
        return given


class StandIn(LocalServer):
    """Serves one tenancy, whose name is also its namespace."""

    def __init__(self, name: str, folder: Path, port: int = 0) -> None:
        super().__init__(Handler, port)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.namespace = name
        self.tenancy = f"ocid1.tenancy.oc1..{name}"
        user = f"ocid1.user.oc1..{secrets.token_hex(8)}"
        key = _new_key()
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        fingerprint = hashlib.md5(public, usedforsecurity=False).hexdigest()
        fingerprint = ":".join(re.findall("..", fingerprint))
        self.keys = {f"{self.tenancy}/{user}/{fingerprint}": key.public_key()}
        self.config = folder / "config"
        self.key_file = folder / "key.pem"
        self.key_file.touch(mode=0o600)
        self.key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        self.config.touch(mode=0o600)
        self.config.write_text(
            f"[DEFAULT]\nuser={user}\nfingerprint={fingerprint}\nkey_file={self.key_file}\n"
            f"tenancy={self.tenancy}\nregion={_REGION}\n",
            "utf-8",
        )
        self.buckets: dict[str, Bucket] = {}
        self.secret_id = f"ocid1.vaultsecret.oc1..{name}"  # one is there
        self.secrets: dict[str, Secret] = {self.secret_id: Secret()}
        password = b64encode(secrets.token_urlsafe(16).encode()).decode()
        _add_version(self.secrets[self.secret_id], {"content": password})
        self.requests: list[Request] = []
        # Before the answer, for tests: raise Refusal, or return another answer.
        self.interfere: Callable[[Request], Answer | None] = lambda _: None

    def answer(self, request: Request) -> Answer:
        match request.method, request.names:
            case "GET", [""]:
                return _said({"stand_in": NAME, "version": VERSION})
            case "GET" | "HEAD" | "PUT", ["p", *_]:
                return self._shared(request)
        self._authenticate(request)
        match request.method, request.names:
            case _, ["n", *names]:
                return self._object_storage(request, names)
            case "PUT", ["20180608", "secrets", secret_id]:
                return self._update_secret(secret_id, request.json())
            case "GET", ["20190301", "secretbundles", secret_id]:
                return self._bundle(secret_id, request.query)
        raise Refusal(404, "NotAuthorizedOrNotFound")

    # Signatures

    def _authenticate(self, request: Request) -> None:
        try:
            self._verify(request)
        except (KeyError, ValueError, InvalidSignature):
            message = "The required information to complete authentication was not"
            message += " provided or was incorrect."
            raise Refusal(401, "NotAuthenticated", message) from None

    def _verify(self, request: Request) -> None:
        scheme, _, given = request.headers["authorization"].partition(" ")
        fields = dict(re.findall(r'(\w+)="([^"]*)"', given))
        signed = fields["headers"].split()
        wanted = {"date", "(request-target)", "host"}
        in_body = request.names[0] == "n" and request.method == "PUT"
        if request.method in ("POST", "PUT", "PATCH") and not in_body:
            wanted |= {"content-length", "content-type", "x-content-sha256"}
        if (scheme, fields["version"], fields["algorithm"]) != (
            *("Signature", "1"),
            "rsa-sha256",
        ) or not wanted.issubset(signed):
            raise ValueError
        if "x-content-sha256" in signed:
            digest = b64encode(hashlib.sha256(request.body).digest()).decode()
            if request.headers["x-content-sha256"] != digest:
                raise ValueError
        at = email.utils.parsedate_to_datetime(request.headers["date"]).timestamp()
        host = urlsplit(self.url).netloc
        if abs(time.time() - at) > _SKEW or request.headers["host"] != host:
            raise ValueError
        target = f"{request.method.lower()} {request.path}"
        values = {**request.headers, "(request-target)": target}
        text = "\n".join(f"{name}: {values[name]}" for name in signed)
        self.keys[fields["keyId"]].verify(
            b64decode(fields["signature"], validate=True),
            text.encode(),
            padding.PKCS1v15(),
            hashes.SHA256(),
        )

    # Object Storage

    def _object_storage(self, request: Request, names: list[str]) -> Answer:
        if request.method == "GET" and names in ([], [""]):
            return _said(self.namespace)
        if names[0] != self.namespace:
            raise Refusal(404, "NamespaceNotFound")
        match request.method, names[1:]:
            case "POST", ["b"]:
                name = str(request.json()["name"])
                if name in self.buckets:
                    raise Refusal(409, "BucketAlreadyExists")
                self.buckets[name] = Bucket()
                return _said({"name": name, "namespace": self.namespace})
            case _, ["b", name, *_] if name not in self.buckets:
                raise Refusal(404, "BucketNotFound")
            case "DELETE", ["b", name]:
                if self.buckets[name].objects or self.buckets[name].uploads:
                    raise Refusal(409, "BucketNotEmpty")
                del self.buckets[name]
                return Answer(204)
            case method, ["b", name, "o", *rest] if rest:
                return self._object(request, method, self.buckets[name], "/".join(rest))
            case method, ["b", name, "u", *rest]:
                return self._upload(request, method, self.buckets[name], "/".join(rest))
            case method, ["b", name, "p", *rest]:
                return self._share(request, method, name, "/".join(rest))
        raise Refusal(404, "NotAuthorizedOrNotFound")

    def _object(
        self, request: Request, method: str, bucket: Bucket, name: str
    ) -> Answer:
        if method == "PUT":
            _check(request, bucket.objects.get(name))
            meta = {
                k: v for k, v in request.headers.items() if k.startswith("opc-meta")
            }
            one = bucket.objects[name] = _store(request, meta)
            return Answer(headers={"etag": one.etag, **one.headers})
        if name not in bucket.objects:
            raise Refusal(404, "ObjectNotFound")
        one = bucket.objects[name]
        if method in ("GET", "HEAD"):
            return _read(request, one)
        if method == "DELETE":
            _check(request, one)
            del bucket.objects[name]
            return Answer(204)
        raise Refusal(405, "MethodNotAllowed")

    def _upload(
        self, request: Request, method: str, bucket: Bucket, name: str
    ) -> Answer:
        if method == "GET":
            found = [
                {"uploadId": k, "object": v.name} for k, v in bucket.uploads.items()
            ]
            return _said(found)
        if not name:
            asked = request.json()
            _check(request, bucket.objects.get(asked["object"]))
            number = secrets.token_hex(8)
            one = Upload(asked["object"], asked.get("metadata") or {})
            one.headers |= {
                "algorithm": request.headers.get("opc-checksum-algorithm", "")
            }
            bucket.uploads[number] = one
            return _said({"uploadId": number, "object": one.name})
        upload = bucket.uploads.get(request.query["uploadId"])
        if not upload or upload.name != name:
            raise Refusal(404, "NoSuchUpload")
        if method == "PUT":
            part = upload.parts[int(request.query["uploadPartNum"])] = _store(request)
            return Answer(headers={"etag": part.etag, **part.headers})
        if method == "POST":
            _check(request, bucket.objects.get(name))
            bucket.objects[name] = _commit(upload, request.json()["partsToCommit"])
        del bucket.uploads[request.query["uploadId"]]
        if method == "DELETE":
            return Answer(204)
        return Answer(headers={"etag": bucket.objects[name].etag})

    def _share(self, request: Request, method: str, name: str, uri: str) -> Answer:
        bucket = self.buckets[name]
        if method == "POST":
            asked = request.json()
            number = secrets.token_hex(8)
            access = f"/p/{secrets.token_urlsafe(24)}/n/{self.namespace}/b/{name}/o/"
            access += quote(str(asked.get("objectName") or ""))  # or of any object
            bucket.shared[access] = {
                "id": number,
                "access": asked["accessType"],
                "until": asked["timeExpires"],
            }
            said = {k: asked[k] for k in ("name", "accessType", "timeExpires")}
            links = {"accessUri": access, "fullPath": self.url + access}
            return _said({"id": number, **said, **links})
        for access, one in list(bucket.shared.items()):
            if method == "DELETE" and one["id"] == uri:
                del bucket.shared[access]
                return Answer(204)
        raise Refusal(404, "NotFound")

    def _shared(self, request: Request) -> Answer:
        opened, _, name = request.path.partition("/o/")
        wanted = "Write" if request.method == "PUT" else "Read"
        for bucket in self.buckets.values():
            one = bucket.shared.get(request.path) or bucket.shared.get(f"{opened}/o/")
            if not one or wanted not in one["access"]:
                continue
            if datetime.fromisoformat(one["until"]) > datetime.now(UTC):
                return self._object(request, request.method, bucket, unquote(name))
        raise Refusal(404, "NotAuthorizedOrNotFound")

    # Vault: versions are numbered from 1; stages say what they are for

    def _update_secret(self, secret_id: str, asked: dict[str, Any]) -> Answer:
        one = self._secret(secret_id)
        if content := asked.get("secretContent"):
            _add_version(one, content)
        elif number := asked.get("currentVersionNumber"):
            _make_current(one, one.versions[int(number) - 1])
        return _said({"id": secret_id})

    def _secret(self, secret_id: str) -> Secret:
        if secret_id not in self.secrets:
            raise Refusal(404, "NotAuthorizedOrNotFound")
        return self.secrets[secret_id]

    def _bundle(self, secret_id: str, query: dict[str, str]) -> Answer:
        versions = self._secret(secret_id).versions
        number, stage = query.get("versionNumber"), query.get("stage", "CURRENT")
        for version in reversed(versions):
            if (
                version["versionNumber"] == int(number)
                if number
                else stage in version["stages"]
            ):
                return _said({"secretId": secret_id, **version})
        raise Refusal(404, "NotAuthorizedOrNotFound")


def _add_version(one: Secret, content: dict[str, Any]) -> None:
    b64decode(content["content"], validate=True)
    for version in one.versions:
        version["stages"] = [s for s in version["stages"] if s != "LATEST"]
    version = {
        "versionNumber": len(one.versions) + 1,
        "timeCreated": datetime.now(UTC).isoformat(),
        "stages": ["LATEST"],
        "secretBundleContent": {
            "contentType": "BASE64",
            "content": content["content"],
        },
    }
    one.versions.append(version)
    if content.get("stage") == "PENDING":
        version["stages"].append("PENDING")
    else:
        _make_current(one, version)


def _make_current(one: Secret, current: dict[str, Any]) -> None:
    for version in one.versions:
        if "CURRENT" in version["stages"]:
            version["stages"] = ["PREVIOUS"]
        elif "PREVIOUS" in version["stages"]:
            version["stages"] = ["DEPRECATED"]
    kept = [s for s in current["stages"] if s == "LATEST"]
    current["stages"] = ["CURRENT", *kept]


def _check(request: Request, one: Stored | None) -> None:
    """What the request asks of an object before it is replaced or deleted."""
    if request.headers.get("if-none-match") == "*" and one:
        raise Refusal(412, "IfNoneMatchFailed", "The If-None-Match header is '*'")
    wanted = request.headers.get("if-match")
    if wanted and (not one or one.etag != wanted):
        raise Refusal(412, "IfMatchFailed", "The ETag does not match")


def _store(request: Request, headers: dict[str, str] | None = None) -> Stored:
    digest = hashlib.sha256(request.body).digest()
    md5 = hashlib.md5(request.body, usedforsecurity=False).digest()
    given = request.headers.get
    if (claimed := given("opc-content-sha256")) and b64decode(claimed) != digest:
        raise Refusal(400, "UnmatchedContentSHA256", "The computed SHA256 differs")
    if (claimed := given("content-md5")) and b64decode(claimed) != md5:
        raise Refusal(400, "UnmatchedContentMD5", "The computed MD5 differs")
    said = {"opc-content-md5": b64encode(md5).decode()}
    if given("opc-checksum-algorithm") == "SHA256":
        said["opc-content-sha256"] = b64encode(digest).decode()
    return Stored(request.body, {**said, **(headers or {})})


def _commit(upload: Upload, wanted: Iterable[dict[str, Any]]) -> Stored:
    parts = []
    for one in sorted(wanted, key=lambda one: int(one["partNum"])):
        part = upload.parts.get(int(one["partNum"]))
        if not part or part.etag != one["etag"]:
            raise Refusal(400, "InvalidUploadPart")
        parts.append(part.content)
    if not parts:
        raise Refusal(400, "InvalidUploadPart")
    headers = dict(upload.headers)
    if headers.pop("algorithm") == "SHA256":
        digests = b"".join(hashlib.sha256(part).digest() for part in parts)
        total = b64encode(hashlib.sha256(digests).digest()).decode()
        headers["opc-multipart-sha256"] = f"{total}-{len(parts)}"
    return Stored(b"".join(parts), headers)


def _read(request: Request, one: Stored) -> Answer:
    wanted = request.headers.get("if-match")
    if wanted and wanted != one.etag:
        raise Refusal(412, "IfMatchFailed", "The ETag does not match")
    headers = {"etag": one.etag, "content-type": "application/octet-stream"}
    headers |= one.headers
    asked = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", ""))
    if not asked:
        return Answer(200, one.content, headers)
    start, end = int(asked[1]), min(int(asked[2]) + 1, len(one.content))
    if start >= end:
        raise Refusal(416, "InvalidRange")
    headers["content-range"] = f"bytes {start}-{end - 1}/{len(one.content)}"
    return Answer(206, one.content[start:end], headers)


def _said(what: object) -> Answer:
    body = json.dumps(what).encode()
    return Answer(200, body, {"content-type": "application/json"})


@cache
def _new_key() -> rsa.RSAPrivateKey:
    """One for each process: it takes a while."""
    return rsa.generate_private_key(65537, 2048)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: StandIn

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body)
        self.server.requests.append(request)
        try:
            answer = self.server.interfere(request) or self.server.answer(request)
        except Refusal as error:
            said = _said({"code": error.code, "message": error.message})
            answer = Answer(error.status, said.body, said.headers)
        self.send_response(answer.status)
        length = {"content-length": str(len(answer.body))}
        request_id = {"opc-request-id": headers.get("opc-request-id", "none")}
        for name, value in (length | request_id | answer.headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        # Less than was promised: the line is cut.
        if int(answer.headers.get("content-length", 0)) > len(answer.body):
            self.close_connection = True

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

    def log_message(self, *_: object) -> None:
        """Nothing: it would show what is signed, and whatever is in an address."""


def main() -> None:
    folder, port = Path(sys.argv[1]).absolute(), int((sys.argv[2:] or ["0"])[0])
    folder.mkdir(parents=True, exist_ok=True)
    with StandIn("cookbook", folder, port) as server:
        print(f"OCI_ENDPOINT={server.url}\nOCI_CONFIG_FILE={server.config}")
        print(f"OCI_SECRET_ID={server.secret_id}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
