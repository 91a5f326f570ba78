"""connect_with_wallet: a listener that asks the client for its certificate."""

import ssl
from pathlib import Path

import oracledb
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from recipes.oracle.connect_with_wallet import check_wallet, connect_with_wallet

CA = trustme.CA()
OTHER_CA = trustme.CA()
CLIENT = CA.issue_cert("client@example.com")


def write_wallet(
    folder: Path, port: int, *, ca: trustme.CA = CA, password: bytes | None = b"secret"
) -> Path:
    """What a downloaded wallet holds, as far as thin mode reads it."""
    key = serialization.load_pem_private_key(CLIENT.private_key_pem.bytes(), None)
    lock = (
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption()
    )
    parts = [
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock
        ),
        *(part.bytes() for part in CLIENT.cert_chain_pems),
        ca.cert_pem.bytes(),
    ]
    folder.joinpath("ewallet.pem").write_bytes(b"".join(parts))
    folder.joinpath("tnsnames.ora").write_text(
        "shop_high = (description=(address=(protocol=tcps)(port="
        f"{port})(host=localhost))(connect_data=(service_name=shop_high)))\n"
    )
    return folder


@pytest.fixture
def make_server(listener):
    """A listener on TCPS that wants a certificate of the client's."""

    def make(name: str = "localhost"):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        CA.issue_cert(name).configure_cert(context)
        CA.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        return listener(tls=context)

    return make


def reason(wallet: Path, **changes) -> BaseException | None:
    """Why it failed, as it must: behind the listener there is no database."""
    arguments = {"user": "cook", "password": "cook", "wallet_password": "secret"}
    with pytest.raises(oracledb.OperationalError, match="DPY-6005") as caught:
        connect_with_wallet(wallet, "shop_high", **(arguments | changes))
    return caught.value.__cause__


def test_both_sides_are_checked(make_server, tmp_path):
    """The listener gets the certificate of the wallet, and the driver accepts the
    listener's: the connection arrives, and asks for the service of the alias."""
    server = make_server()
    cause = reason(write_wallet(tmp_path, server.port))
    assert "DPY-6001" in str(cause)  # the listener's own answer: TLS is done by then
    assert "(SERVICE_NAME=shop_high)" in server.asked[0]
    (certificate,) = server.client_certificates
    assert certificate["subjectAltName"] == (("email", "client@example.com"),)


def test_key_without_password(make_server, tmp_path):
    """A key without a password works too: the password given is not needed."""
    server = make_server()
    wallet = write_wallet(tmp_path, server.port, password=None)
    assert "DPY-6001" in str(reason(wallet))
    assert server.client_certificates[0]


def test_other_authority(make_server, tmp_path):
    """A server whose certificate the wallet does not vouch for is refused, before any
    password is sent."""
    server = make_server()
    wallet = write_wallet(tmp_path, server.port, ca=OTHER_CA)
    assert isinstance(reason(wallet), ssl.SSLCertVerificationError)
    assert server.asked == []


def test_other_host(make_server, tmp_path):
    """A certificate for another host is refused: DPY-6006."""
    server = make_server("other.example.com")
    cause = reason(write_wallet(tmp_path, server.port))
    assert "DPY-6006" in str(cause)
    assert server.asked == []


@pytest.mark.parametrize("password", ["wrong", ""])
def test_wrong_password(make_server, tmp_path, password):
    """A wrong password of the wallet, or none: ValueError, and no connection."""
    server = make_server()
    wallet = write_wallet(tmp_path, server.port)
    with pytest.raises(ValueError, match="wrong password"):
        reason(wallet, wallet_password=password)
    assert server.connections == 0


def test_no_wallet(tmp_path):
    """A folder without ewallet.pem: ValueError, with the folder in it."""
    with pytest.raises(ValueError, match=str(tmp_path)):
        check_wallet(tmp_path, "secret")


def test_certificates_without_key(tmp_path):
    """An ewallet.pem that has no key: ValueError."""
    CA.cert_pem.write_to_path(str(tmp_path / "ewallet.pem"))
    with pytest.raises(ValueError, match="no certificate with its key"):
        check_wallet(tmp_path, "secret")


def test_unknown_alias(make_server, tmp_path):
    """An alias that is not in tnsnames.ora: DPY-4000, with the name of the file."""
    wallet = write_wallet(tmp_path, make_server().port)
    with pytest.raises(oracledb.DatabaseError, match=r"DPY-4000.*tnsnames\.ora"):
        connect_with_wallet(
            wallet, "shop_low", user="cook", password="cook", wallet_password="secret"
        )


def write_plain_alias(wallet: Path, address: str) -> Path:
    wallet.joinpath("tnsnames.ora").write_text(f"shop_high = {address}\n")
    return wallet


def test_wallet_does_not_turn_tls_on(listener, tmp_path):
    """It is `protocol=tcps` in the alias that turns TLS on. With `tcp` the wallet goes
    unused, and the connection is in the clear."""
    server = listener()
    address = server.dsn.partition("@")[2]
    wallet = write_plain_alias(write_wallet(tmp_path, server.port), address)
    assert "DPY-6001" in str(reason(wallet))
    assert "(PROTOCOL=tcp)" in server.asked[0]


def test_alias_of_a_server(oracle, tmp_path):
    """The alias leads to the server, and the login succeeds."""
    user, password, address = oracledb.ConnectParams().parse_dsn_with_credentials(
        oracle
    )
    wallet = write_plain_alias(write_wallet(tmp_path, 0), address)
    with connect_with_wallet(
        wallet, "shop_high", user=user, password=password, wallet_password="secret"
    ) as conn:
        assert conn.username == user


def test_tnsnames_wins(tmp_path):
    """What tnsnames.ora says about attempts and pauses wins over arguments."""
    tmp_path.joinpath("tnsnames.ora").write_text(
        "shop = (description=(retry_count=20)(retry_delay=3)(address=(protocol=tcps)"
        "(port=1522)(host=db.example.com))(connect_data=(service_name=shop)))"
    )
    params = oracledb.ConnectParams(config_dir=str(tmp_path), retry_count=1)
    params.parse_connect_string("shop")
    assert (params.retry_count, params.retry_delay) == (20, 3)


# --8<-- [start:wrong]
def connect_as_copied(wallet, user, password, wallet_password):
    return oracledb.connect(
        user=user,
        password=password,
        dsn="shop_high",
        config_dir=wallet,
        wallet_password=wallet_password,
    )


# --8<-- [end:wrong]


def test_often_copied_does_not_read_the_wallet(make_server, tmp_path):
    """Often copied: `config_dir` alone. The wallet is not read, so its authority is not
    trusted: `CERTIFICATE_VERIFY_FAILED`, and no certificate is offered."""
    server = make_server()
    wallet = write_wallet(tmp_path, server.port)
    with pytest.raises(oracledb.OperationalError) as caught:
        connect_as_copied(str(wallet), "cook", "cook", "secret")
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
    assert server.client_certificates == []


def test_often_copied_swallows_a_wrong_password(make_server, tmp_path):
    """Often copied, with `wallet_location` added: the driver ignores a wrong password
    of the wallet, connects without its certificate, and the server sends it away."""
    server = make_server()
    wallet = write_wallet(tmp_path, server.port)
    with pytest.raises(oracledb.OperationalError, match="DPY-6005"):
        oracledb.connect(
            user="cook",
            password="cook",
            dsn="shop_high",
            config_dir=str(wallet),
            wallet_location=str(wallet),
            wallet_password="wrong",
        )
    assert server.asked == []
    assert server.client_certificates == []
