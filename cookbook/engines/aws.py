"""A service of Amazon Web Services, with MiniStack as its stand-in.

It keeps the data of each access key apart, so a place is an access key of its own.
"""

import importlib.metadata
import importlib.util
import json
import os
import secrets
import sys
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import parse_qs, quote, unquote, urlsplit, urlunsplit

from cookbook.engines.base import Engine, Program, Server, Starter

if TYPE_CHECKING:  # drivers are imported late: not every extra is installed
    from botocore.session import Session

_REGION = "eu-central-1"


class AWS(Engine):
    service: ClassVar[str]  # what boto3 and MiniStack call it
    endpoints: ClassVar[tuple[str, ...]] = ()  # variables that come before `env`
    install = "pip install ministack"

    @property
    def no_server(self) -> str:
        return (
            f"Set {self.env}, for example {self.example}, with AWS_ACCESS_KEY_ID,"
            " AWS_SECRET_ACCESS_KEY and AWS_DEFAULT_REGION"
            f" after `docker compose up -d --wait {self.name}`"
        )

    def variables(self, address: str) -> dict[str, str]:
        """One address holds them all: http://key:secret@host:port/?region=name."""
        parts = urlsplit(address)
        host = parts.netloc.rpartition("@")[2]
        return {
            self.env: urlunsplit((parts.scheme, host, "", "", "")),
            "AWS_ACCESS_KEY_ID": unquote(parts.username or "cook"),
            "AWS_SECRET_ACCESS_KEY": unquote(parts.password or "cook"),
            "AWS_DEFAULT_REGION": parse_qs(parts.query).get("region", [_REGION])[0],
        }

    def external(self) -> str | None:
        get = os.environ.get
        endpoint = next(filter(None, map(get, (*self.endpoints, self.env))), None)
        if not endpoint:  # never an account in the cloud that happens to be at hand
            return None
        parts = urlsplit(endpoint)
        key = get("AWS_ACCESS_KEY_ID") or "cook"
        secret = get("AWS_SECRET_ACCESS_KEY") or "cook"
        region = get("AWS_DEFAULT_REGION") or get("AWS_REGION") or _REGION
        host = parts.netloc.rpartition("@")[2]
        netloc = f"{quote(key, safe='')}:{quote(secret, safe='')}@{host}"
        return urlunsplit((parts.scheme, netloc, "/", f"region={region}", ""))

    def health(self, url: str) -> tuple[dict[str, str], bytes]:
        """Headers and body of the answer to MiniStack's question for its health."""
        return _get(f"{self.variables(url)[self.env]}/_ministack/health")

    def identify(self, url: str) -> tuple[str, str]:
        _, body = self.health(url)
        if b'"iot_mtls"' not in body:
            raise ValueError("it is not MiniStack")
        return "MiniStack", json.loads(body)["version"]

    def create_place(self, server: Server, name: str) -> str:
        # Twelve digits: what MiniStack takes for the number of an account.
        key = f"{secrets.randbelow(10**12):012}"
        parts = urlsplit(server.url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit(parts._replace(netloc=f"{key}:cook@{host}"))

    def embedded(self) -> Program | None:
        if not importlib.util.find_spec("ministack"):
            return None
        version = importlib.metadata.version("ministack")
        return Program(Path(sys.executable), f"MiniStack {version}", as_ourselves=True)

    def command(self, program: Program, folder: Path, port: int) -> list[str]:
        return [str(program.path), "-m", "ministack"]

    def environment(self, folder: Path, port: int) -> dict[str, str]:
        """MiniStack listens to the world and serves all of AWS by itself."""
        return {
            "BIND_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(port),
            "SERVICES": self.service,
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "DOCKER_HOST": "unix:///nonexistent",  # it removes containers it calls old
            "LOG_LEVEL": "WARNING",
        }

    def url(self, folder: Path, port: int, password: str) -> str:
        # No password guards it: any access key is let in.
        return f"http://cook:cook@127.0.0.1:{port}/?region={_REGION}"


def asks(service: str, count: str) -> Starter:
    """What `cookbook new` writes: the service's client, and 42 with nothing in it."""
    return Starter(
        body=f"""\
parts = urlsplit(address)  # what is not in it comes from the environment
client = boto3.client(
    "{service}",
    endpoint_url=f"{{parts.scheme}}://{{parts.netloc.rpartition('@')[2]}}",
    aws_access_key_id=parts.username,
    aws_secret_access_key=parts.password,
    region_name=dict(parse_qsl(parts.query)).get("region"),
)
return 42 + len(client.{count})""",
        driver="import boto3",
        dependency="boto3>=1.40",
        standard=("from urllib.parse import parse_qsl, urlsplit",),
    )


def _get(url: str) -> tuple[dict[str, str], bytes]:
    """Headers and body of the answer, also where it is an error: that is an answer."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310
            return dict(answer.headers), answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return dict(error.headers), error.read()


@cache
def _session() -> "Session":
    from botocore.session import Session

    return Session()  # it reads the description of a service once


def make_client(one: AWS, address: str) -> Any:
    """A client of that engine's service."""
    from botocore.config import Config

    given = one.variables(address)
    return _session().create_client(
        one.service,
        endpoint_url=given[one.env],
        aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
        region_name=given["AWS_DEFAULT_REGION"],
        config=Config(connect_timeout=5, read_timeout=30),
    )
