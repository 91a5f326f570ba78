# /// script
# requires-python = ">=3.11"
# dependencies = ["boto3>=1.40", "botocore>=1.40", "psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql_tls", "secretsmanager"]
# ///
"""Read a database password from AWS Secrets Manager.

The secret is kept for some minutes, and read again as soon as the database refuses it:
a rotation needs no restart. It may be JSON, plain text or bytes.
"""

import json
import logging
import os
import secrets
import sys
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from typing import Any

import boto3
import psycopg
from botocore.config import Config
from psycopg.sql import SQL, Identifier


# --8<-- [start:cache]
@dataclass(frozen=True)
class Secret:
    name: str
    version: str
    value: str | bytes = field(repr=False)

    def fields(self) -> dict[str, Any]:
        """What a JSON object holds. Raises ValueError, and does not show the value."""
        try:
            found = json.loads(self.value)
        except ValueError:  # it has the value in it: nothing is raised from here
            found = None
        if isinstance(found, dict):
            return found
        raise ValueError(f"{self.name} is not a JSON object")


class SecretCache:
    """Secrets, each kept for ttl seconds. Threads may share it."""

    def __init__(self, client: Any, ttl: float = 300) -> None:
        self._client, self._ttl, self._lock = client, ttl, Lock()
        self._kept: dict[str, tuple[float, Secret]] = {}

    def get(self, name: str, refused: Secret | None = None) -> Secret:
        """The secret; a newly read one if the kept one is what was refused.

        Raises ClientError (no such secret, no permission) or BotoCoreError.
        """
        with self._lock:  # one request, however many threads want it
            read_at, secret = self._kept.get(name, (0.0, None))
            if secret and secret is not refused and monotonic() < read_at + self._ttl:
                return secret
            answer = self._client.get_secret_value(SecretId=name)
            value = answer.get("SecretString", answer.get("SecretBinary"))
            secret = Secret(name, answer["VersionId"], value)
            self._kept[name] = (monotonic(), secret)
            return secret


def make_client(**options: Any) -> Any:
    """A client for the whole process. boto3 finds credentials and region itself."""
    # At DEBUG it writes down the answers, and the secrets with them.
    logging.getLogger("botocore").setLevel(logging.INFO)
    config = Config(connect_timeout=5, read_timeout=5, retries={"mode": "standard"})
    return boto3.client("secretsmanager", config=config, **options)


# --8<-- [end:cache]


# --8<-- [start:connect]
def connect(cache: SecretCache, name: str, address: str) -> psycopg.Connection:
    """Log in as the secret's `username` with its `password`; address has neither.

    A password that the database refuses is read again, and tried if it is another one.
    Raises OperationalError, ValueError, KeyError (no such field), and as get() does.
    """

    def log_in(secret: Secret) -> psycopg.Connection:
        fields = secret.fields()
        login = {"user": fields["username"], "password": fields["password"]}
        return psycopg.connect(address, **login, connect_timeout=5)

    secret = cache.get(name)
    try:
        return log_in(secret)
    except psycopg.OperationalError as error:
        if not (error.pgconn and error.pgconn.used_password):
            raise  # no server, no TLS: the password is not the reason
        newer = cache.get(name, refused=secret)
        if newer.version == secret.version:
            raise  # the same again would only count as one more failed login
    return log_in(newer)


# --8<-- [end:connect]

NO_SERVER = (
    "Set POSTGRESQL_TLS_URL, for example"
    " postgresql://cook:cook@localhost:15433/cookbook"
    "?sslmode=verify-full&sslrootcert=build/tls/ca.pem"
    " after `docker compose up -d --wait postgresql_tls`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_TLS_URL") or sys.exit(NO_SERVER)
    client = make_client(endpoint_url=os.environ["AWS_ENDPOINT_URL_SECRETS_MANAGER"])
    cache = SecretCache(client)
    with psycopg.connect(url, connect_timeout=5, autocommit=True) as admin:
        role = f"app_{admin.info.dbname}"
        admin.execute(SQL("CREATE ROLE {} LOGIN").format(Identifier(role)))
        client.create_secret(Name=role, SecretString="{}")
        try:
            for step in ("first login", "after a rotation"):
                new = {"username": role, "password": secrets.token_urlsafe(32)}
                admin.pgconn.change_password(role.encode(), new["password"].encode())
                client.put_secret_value(SecretId=role, SecretString=json.dumps(new))
                with connect(cache, role, url) as conn:
                    print(f"{step} as the secret's user:", conn.info.user == role)
        finally:
            client.delete_secret(SecretId=role, ForceDeleteWithoutRecovery=True)
            admin.execute(SQL("DROP ROLE {}").format(Identifier(role)))
    client.close()


if __name__ == "__main__":
    main()
