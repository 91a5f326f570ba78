"""PostgreSQL with TLS: a certificate for `localhost`, made by an authority of our own.

The server from the wheel is built without TLS, so this one comes from the PATH.
"""

from pathlib import Path

from cookbook.engines import process
from cookbook.engines.base import Program
from cookbook.engines.postgresql import PostgreSQL


class PostgreSQLWithTLS(PostgreSQL):
    name = "postgresql_tls"
    title = "PostgreSQL"
    env = "POSTGRESQL_TLS_URL"
    example = (
        "postgresql://cook:cook@localhost:15433/cookbook"
        "?sslmode=verify-full&sslrootcert=build/tls/ca.pem"
    )
    dialect = None  # PostgreSQL serves what SQLAlchemy needs
    install = "apt-get install postgresql (the server in the wheel has no TLS)"

    def embedded(self) -> Program | None:
        return None

    def prepare(self, program: Program, folder: Path, password: str) -> None:
        super().prepare(program, folder, password)
        key = _make_certificate(folder)
        process.secret_file(folder / "server.key", key)

    def settings(self, folder: Path) -> dict[str, str]:
        return {
            **super().settings(folder),
            "ssl": "on",
            "ssl_cert_file": str(folder / "server.pem"),
            "ssl_key_file": str(folder / "server.key"),
        }

    def url(self, folder: Path, port: int, password: str) -> str:
        address = super().url(folder, port, password).replace("127.0.0.1", "localhost")
        return f"{address}?sslmode=verify-full&sslrootcert={folder / 'ca.pem'}"

    def container_environment(self, folder: Path) -> dict[str, str]:
        (folder / "server.key").write_text(_make_certificate(folder))
        return {"COOKBOOK_TLS": str(folder)}


def _make_certificate(folder: Path) -> str:
    """Write ca.pem and server.pem; return the key of the latter."""
    import trustme

    authority = trustme.CA(organization_name="Python Database Cookbook")
    certificate = authority.issue_cert("localhost")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    (folder / "server.pem").write_bytes(chain)
    return certificate.private_key_pem.bytes().decode()
