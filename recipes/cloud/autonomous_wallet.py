# /// script
# requires-python = ">=3.11"
# dependencies = ["cryptography>=45", "oracledb>=3.4"]
#
# [tool.cookbook]
# needs = ["oracle"]
# ///
"""Connect to an Autonomous Database, with its wallet or without one.

The wallet is a zip with a key in it, of which thin mode reads two files. Unpack those,
check them before they are needed, and bound the attempts, which tnsnames.ora stretches
to minutes. A database that does not ask for mutual TLS needs no wallet at all.
"""

import os
import ssl
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from zipfile import ZipFile

import oracledb
from cryptography.x509 import load_pem_x509_certificates

# --8<-- [start:wallet]
FILES = ("ewallet.pem", "tnsnames.ora")  # all that thin mode reads


def unpack(archive: Path, wallet: Path) -> None:
    """Unpack what thin mode reads into wallet, a new folder that only we may open.

    Raises FileExistsError, BadZipFile, ValueError (it is no wallet).
    """
    with ZipFile(archive) as zipped:
        if missing := sorted({*FILES} - {*zipped.namelist()}):
            raise ValueError(f"{archive.name} has no {' and no '.join(missing)}")
        wallet.mkdir(mode=0o700)
        for name in FILES:
            zipped.extract(name, wallet)


def check(wallet: Path, wallet_password: str) -> datetime:
    """Return when our certificate in wallet ends, and the database sends us away.

    Raises ValueError: it has ended, or the password does not open the key.
    """
    pem = wallet / "ewallet.pem"
    try:  # the driver ignores a key that it cannot open, and connects without it
        ssl.create_default_context().load_cert_chain(
            pem,
            password=lambda: wallet_password,  # a function: else OpenSSL asks for ""
        )
    except ssl.SSLError as error:
        raise ValueError(f"{pem.name}: wrong password, or no key in it") from error
    ours, *_ = load_pem_x509_certificates(pem.read_bytes())
    if (ends := ours.not_valid_after_utc) < datetime.now(UTC):
        raise ValueError(f"{pem.name}: expired on {ends:%Y-%m-%d}, download it again")
    return ends


# --8<-- [end:wallet]


# --8<-- [start:address]
def with_wallet(
    wallet: Path, alias: str, wallet_password: str
) -> oracledb.ConnectParams:
    """The way to alias, a name in the wallet's tnsnames.ora such as shop_high.

    Raises DatabaseError (DPY-4000, no such name), ValueError (it is not on TLS).
    """
    return bounded(
        alias,
        config_dir=str(wallet),  # tnsnames.ora
        wallet_location=str(wallet),  # ewallet.pem: config_dir is not enough
        wallet_password=wallet_password,
    )


def without_wallet(address: str) -> oracledb.ConnectParams:
    """The way to an address on TLS, as the console shows it for "TLS".

    For a database that does not require mutual TLS. Whom the system trusts, we trust.
    """
    return bounded(address)


def bounded(address: str, **wallet: str) -> oracledb.ConnectParams:
    params: oracledb.ConnectParams = oracledb.ConnectParams(**wallet)
    params.parse_connect_string(address)
    each = [params.protocol] if isinstance(params.protocol, str) else params.protocol
    if {*each} != {"tcps"}:
        raise ValueError("not TLS: the address must say tcps")
    # After parsing: what tnsnames.ora says would win over arguments.
    params.set(tcp_connect_timeout=5, retry_count=2, retry_delay=1)  # in seconds
    params.set(ssl_server_dn_match=True, expire_time=1)  # probes a silent line
    return params


def connect(
    params: oracledb.ConnectParams, user: str, password: str
) -> oracledb.Connection:
    """Raises OperationalError (DPY-6005, its __cause__ says why), DatabaseError."""
    conn = oracledb.connect(params=params, user=user, password=password)
    conn.call_timeout = 30_000  # milliseconds for each round trip
    return conn


# --8<-- [end:address]

NO_SERVER = (
    "Set ORACLE_DSN, for example cook/cook@127.0.0.1:11521/FREEPDB1"
    " after `docker compose up -d --wait oracle`"
)


def main() -> None:
    dsn = os.environ.get("ORACLE_DSN") or sys.exit(NO_SERVER)
    user, password, address = oracledb.ConnectParams().parse_dsn_with_credentials(dsn)
    params = oracledb.ConnectParams(tcp_connect_timeout=5)
    params.parse_connect_string(address)
    with connect(params, user, password) as conn:
        print("thin:", conn.thin)
    try:  # the server of the example speaks no TLS
        without_wallet(address)
    except ValueError as error:
        print(error)
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "wallet.zip")
        with ZipFile(archive, "w") as zipped:
            zipped.writestr("tnsnames.ora", f"shop = {params.get_connect_string()}\n")
        try:
            unpack(archive, Path(folder, "wallet"))
        except ValueError as error:
            print(error)


if __name__ == "__main__":
    main()
