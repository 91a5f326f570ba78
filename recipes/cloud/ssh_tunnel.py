# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql_tls", "sshd"]
# ///
"""Reach a database through an SSH tunnel.

The system's ssh does it, with the keys and agents that the team has already. Both ends
are verified: the bastion by its host key, the database by its certificate.
"""

import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from urllib.parse import parse_qs, urlsplit

import psycopg
from psycopg.conninfo import conninfo_to_dict

# --8<-- [start:tunnel]
OPTIONS = {
    "BatchMode": "yes",  # never asks: a service has nobody to answer
    "StrictHostKeyChecking": "yes",  # an unknown host key is refused, as a changed one
    "GlobalKnownHostsFile": "none",
    "IdentitiesOnly": "yes",
    "ConnectTimeout": "10",
    "ExitOnForwardFailure": "yes",
    "ServerAliveInterval": "15",  # a dead line is found after 45 s
    "ServerAliveCountMax": "3",
    "PermitLocalCommand": "yes",
    "LocalCommand": "echo open",  # when the local port listens
}
# It ends with ssh; and ssh ends with us, in whatever way: then the read ends.
TOGETHER = (
    'exec 3<&0; "$@" 3<&- & ssh=$!; (read -r _ <&3; kill $ssh) & wait $ssh; kill $!'
)


@contextmanager
def tunnel(
    bastion: str, to: tuple[str, int], identity: Path, known_hosts: Path
) -> Iterator[int]:
    """Forward a free port of 127.0.0.1 to a host and port that the bastion reaches.

    bastion: ssh://user@host:port. Gives the local port. Raises ConnectionError with
    what ssh said; an error inside the block gets a note if the tunnel has ended.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    options = OPTIONS | {
        "IdentityFile": f'"{identity}"',
        "UserKnownHostsFile": f'"{known_hosts}"',
        "LocalForward": f"127.0.0.1:{port} [{to[0]}]:{to[1]}",
    }
    command = ["ssh", "-N", "-F", "none", *(f"-o{k}={v}" for k, v in options.items())]
    with (
        TemporaryFile() as said,
        subprocess.Popen(
            ["sh", "-c", TOGETHER, "sh", *command, "--", bastion],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,  # Ctrl-C is for us: ssh ends after the block
        ) as process,
    ):
        assert process.stdout

        def why() -> str:
            said.seek(0)
            return said.read().decode(errors="replace").strip() or "no answer"

        is_news, _, _ = select.select([process.stdout], [], [], 20)
        if not (is_news and process.stdout.readline()):
            raise ConnectionError(f"no tunnel through {bastion}: {why()}")
        try:
            yield port
        except Exception as error:
            if process.poll() is not None:
                error.add_note(f"the tunnel through {bastion} has ended: {why()}")
            raise


# --8<-- [end:tunnel]


# --8<-- [start:connect]
def connect_through(port: int, address: str) -> psycopg.Connection:
    """Connect to the address by the tunnel, as if it was reached directly.

    The certificate must name the host of the address, and not 127.0.0.1.
    """
    return psycopg.connect(
        address,
        hostaddr="127.0.0.1",  # where the packets go; `host` is what TLS verifies
        port=port,
        sslmode="verify-full",
        connect_timeout=10,
    )


# --8<-- [end:connect]

NO_SERVER = (
    "Set POSTGRESQL_TLS_URL, for example"
    " postgresql://cook:cook@localhost:15433/cookbook"
    "?sslmode=verify-full&sslrootcert=build/tls/ca.pem"
    " after `docker compose up -d --wait postgresql_tls`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_TLS_URL") or sys.exit(NO_SERVER)
    at = conninfo_to_dict(url)
    ssh = urlsplit(os.environ["SSH_URL"])
    files = {name: Path(found[0]) for name, found in parse_qs(ssh.query).items()}
    to = (str(at["host"]), int(str(at["port"])))
    with (
        tunnel(f"ssh://{ssh.netloc}", to, **files) as port,
        connect_through(port, url) as conn,
    ):
        print("another port:", conn.info.port != to[1])
        print("certificate of:", conn.info.host)
        print("TLS inside:", conn.pgconn.ssl_in_use)


if __name__ == "__main__":
    main()
