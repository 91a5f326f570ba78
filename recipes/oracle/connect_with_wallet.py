# /// script
# requires-python = ">=3.11"
# dependencies = ["oracledb>=3.4"]
# ///
"""Connect with a wallet, over TLS that checks both sides.

For an Autonomous Database, and any other that asks the client for a certificate. Thin
mode reads two files of the unzipped wallet, and must be told of each: tnsnames.ora in
config_dir, ewallet.pem in wallet_location.
"""

import os
import ssl
import sys
import tempfile
from pathlib import Path

import oracledb

NO_SERVER = (
    "Set ORACLE_DSN, for example cook/cook@127.0.0.1:11521/FREEPDB1"
    " after `docker compose up -d --wait oracle`"
)


# --8<-- [start:connect]
def connect_with_wallet(
    wallet: Path, alias: str, *, user: str, password: str, wallet_password: str
) -> oracledb.Connection:
    """Connect to alias, a name in the tnsnames.ora of the folder wallet.

    Raises ValueError (no use of the wallet), DatabaseError (DPY-4000, no such alias),
    OperationalError (DPY-6005, no connection; its __cause__ says why).
    """
    check_wallet(wallet, wallet_password)
    return oracledb.connect(
        user=user,
        password=password,
        dsn=alias,
        config_dir=str(wallet),  # tnsnames.ora
        wallet_location=str(wallet),  # ewallet.pem: our certificate, and whom we trust
        wallet_password=wallet_password,
        ssl_server_dn_match=True,  # the certificate must be for that host
        tcp_connect_timeout=5,
    )


def check_wallet(wallet: Path, wallet_password: str) -> None:
    """Raise ValueError unless the password opens the key in wallet.

    The driver ignores a key that it cannot open, and connects without it.
    """
    pem = wallet / "ewallet.pem"
    if not pem.is_file():
        raise ValueError(f"there is no ewallet.pem in {wallet}")
    try:
        # A function, since OpenSSL would ask at the terminal for an empty password.
        ssl.create_default_context().load_cert_chain(
            pem, password=lambda: wallet_password
        )
    except ssl.SSLError as error:
        raise ValueError(
            f"{pem}: wrong password, or no certificate with its key"
        ) from error


# --8<-- [end:connect]


def main() -> None:
    dsn = os.environ.get("ORACLE_DSN") or sys.exit(NO_SERVER)
    params = oracledb.ConnectParams()
    user, password, address = params.parse_dsn_with_credentials(dsn)
    params.parse_connect_string(address)
    with tempfile.TemporaryDirectory() as folder:
        names = Path(folder, "tnsnames.ora")
        names.write_text(f"shop = {params.get_connect_string()}\n", "utf-8")
        with oracledb.connect(
            user=user, password=password, dsn="shop", config_dir=folder
        ) as conn:
            print("found by its alias:", conn.thin)
        try:
            connect_with_wallet(
                Path(folder), "shop", user=user, password=password, wallet_password=""
            )
        except ValueError as error:
            print("refused:", str(error).partition(" in ")[0])


if __name__ == "__main__":
    main()
