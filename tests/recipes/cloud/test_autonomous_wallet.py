"""autonomous_wallet: a listener on TLS that asks the client for its certificate."""

import gc
import logging
import socket
import ssl
import stat
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import oracledb
import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from recipes.cloud.autonomous_wallet import (
    check,
    connect,
    unpack,
    with_wallet,
    without_wallet,
)
from tests.recipes.support.tns_listener import TnsListener

# Or a first connection that hangs would hold up every other one of this process.
oracledb.enable_thin_mode()

CA, OTHER_CA = trustme.CA(), trustme.CA()
ENDS = datetime(2099, 1, 2, 3, 4, 5, tzinfo=UTC)
CLIENT = CA.issue_cert("client@example.com", not_after=ENDS)
EXPIRED_ON = datetime.now(UTC) - timedelta(days=1)
EXPIRED = CA.issue_cert(
    "client@example.com",
    not_before=datetime.now(UTC) - timedelta(days=2),
    not_after=EXPIRED_ON,
)
WALLET_PASSWORD, PASSWORD = "Wallet-hunter2", "User-hunter2"
BAG = b"Bag Attributes\n    friendlyName: orakey\n"  # as in a wallet of the service


def write_zip(folder: Path, port=1522, ca=CA, client=CLIENT, protocol="tcps") -> Path:
    """What is downloaded, as far as it matters here, and a file that does not."""
    key = serialization.load_pem_private_key(client.private_key_pem.bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(WALLET_PASSWORD.encode()),
    )
    chain = [part.bytes() for part in client.cert_chain_pems]
    pem = BAG + BAG.join([locked, *chain, ca.cert_pem.bytes()])
    names = (
        f"shop_high = (description=(retry_count=20)(retry_delay=3)(address="
        f"(protocol={protocol})(port={port})(host=localhost))(connect_data="
        "(service_name=shop_high.adb.example.com))(security=(ssl_server_dn_match=no)))"
    )
    archive = folder / "Wallet_shop.zip"
    with ZipFile(archive, "w") as zipped:
        zipped.writestr("ewallet.pem", pem)
        zipped.writestr("tnsnames.ora", names)
        zipped.writestr("cwallet.sso", b"a key without a password")
    return archive


@pytest.fixture
def make_wallet(tmp_path):
    def make(port=1522, **options) -> Path:
        unpack(write_zip(tmp_path, port, **options), tmp_path / "wallet")
        return tmp_path / "wallet"

    return make


@pytest.fixture
def make_server():
    """Make a listener on TLS, that wants a certificate unless it is told otherwise."""
    made = []

    def make(name="localhost", *, mutual=True) -> TnsListener:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        CA.issue_cert(name).configure_cert(context)
        if mutual:
            CA.configure_trust(context)
            context.verify_mode = ssl.CERT_REQUIRED
        made.append(TnsListener(tls=context))
        return made[-1]

    yield make
    for one in made:
        one.close()


def reason(params: oracledb.ConnectParams, retries: int = 0) -> BaseException | None:
    """Why it failed, as it must: behind the listener there is no database."""
    params.set(retry_count=retries, retry_delay=0)
    with pytest.raises(oracledb.OperationalError, match="DPY-6005") as caught:
        connect(params, "cook", PASSWORD)
    return caught.value.__cause__


def test_certificates_of_both_sides(make_server, make_wallet):
    """The listener gets the certificate of the wallet, the driver accepts that of the
    listener, and the connection arrives there and asks for the service of the alias."""
    server = make_server()
    wallet = make_wallet(server.port)
    cause = reason(with_wallet(wallet, "shop_high", WALLET_PASSWORD))
    assert "DPY-6001" in str(cause)  # the listener's own answer: TLS is done by then
    assert "(SERVICE_NAME=shop_high.adb.example.com)" in server.asked[0]
    subject = server.client_certificates[0]["subjectAltName"]
    assert subject == (("email", "client@example.com"),)


def test_name_of_the_server_is_compared(make_server, make_wallet):
    """A certificate for another host is refused (DPY-6006), also where tnsnames.ora
    says `ssl_server_dn_match=no`."""
    server = make_server("other.example.com")
    wallet = make_wallet(server.port)
    cause = reason(with_wallet(wallet, "shop_high", WALLET_PASSWORD))
    assert "DPY-6006" in str(cause)
    assert server.asked == []


def test_other_authority(make_server, make_wallet):
    """A server that the wallet does not vouch for is refused, before a user's name or
    password is sent."""
    server = make_server()
    wallet = make_wallet(server.port, ca=OTHER_CA)
    cause = reason(with_wallet(wallet, "shop_high", WALLET_PASSWORD))
    assert isinstance(cause, ssl.SSLCertVerificationError)
    assert server.asked == []


def test_attempts_are_bounded(make_server, make_wallet):
    """Three attempts, one second apart, where tnsnames.ora says twenty, and three
    seconds; and five seconds for each host to answer."""
    server = make_server()
    params = with_wallet(make_wallet(server.port), "shop_high", WALLET_PASSWORD)
    limits = (params.retry_count, params.retry_delay, params.tcp_connect_timeout)
    assert limits == (2, 1, 5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        reason(params, retries=params.retry_count)
        gc.collect()  # the driver closes no socket of an attempt that it repeats
    assert server.connections == 3


def test_only_what_is_read_is_unpacked(make_wallet):
    """Of the zip, two files are written, to a folder that only its user may open: the
    copy of the key that has no password is left out."""
    wallet = make_wallet()
    assert sorted(path.name for path in wallet.iterdir()) == [
        "ewallet.pem",
        "tnsnames.ora",
    ]
    assert stat.S_IMODE(wallet.stat().st_mode) == 0o700


def test_folder_that_is_there(make_wallet, tmp_path):
    """An older wallet is not written over: FileExistsError."""
    wallet = make_wallet()
    with pytest.raises(FileExistsError):
        unpack(tmp_path / "Wallet_shop.zip", wallet)


def test_archive_that_is_no_wallet(tmp_path):
    """A zip without the two files is refused with their names, and nothing is written;
    what is no zip is refused too."""
    archive = tmp_path / "other.zip"
    with ZipFile(archive, "w") as zipped:
        zipped.writestr("cwallet.sso", b"")
    wallet = tmp_path / "wallet"
    with pytest.raises(ValueError, match=r"no ewallet\.pem and no tnsnames\.ora"):
        unpack(archive, wallet)
    archive.write_bytes(b"<html>")
    with pytest.raises(BadZipFile):
        unpack(archive, wallet)
    assert not wallet.exists()


def test_until_when(make_wallet):
    """The end of our own certificate, an aware datetime, is what `check` returns."""
    assert check(make_wallet(), WALLET_PASSWORD) == ENDS


def test_expired(make_wallet):
    """An expired wallet: ValueError with the day, before anything is sent."""
    yesterday = EXPIRED_ON.strftime("%Y-%m-%d")
    with pytest.raises(ValueError, match=f"expired on {yesterday}"):
        check(make_wallet(client=EXPIRED), WALLET_PASSWORD)


@pytest.mark.parametrize("password", ["wrong", ""])
def test_wrong_password(make_wallet, password):
    """A wrong password of the wallet, or none: ValueError."""
    with pytest.raises(ValueError, match="wrong password"):
        check(make_wallet(), password)


def test_unknown_alias(make_wallet):
    """An alias that is not in tnsnames.ora: DPY-4000."""
    with pytest.raises(oracledb.DatabaseError, match="DPY-4000"):
        with_wallet(make_wallet(), "shop_low", WALLET_PASSWORD)


@pytest.mark.parametrize(
    "address",
    [
        "db.example.com:1521/shop",
        "(description=(address=(protocol=tcps)(host=a)(port=1))(address=(protocol=tcp)"
        "(host=b)(port=1))(connect_data=(service_name=shop)))",
    ],
)
def test_address_without_tls(address):
    """An address without TLS is refused, also where it is one of several."""
    with pytest.raises(ValueError, match="not TLS"):
        without_wallet(address)


def test_alias_without_tls(make_wallet):
    """An alias without TLS is refused: the wallet would go unused, and all would go out
    in the clear."""
    with pytest.raises(ValueError, match="not TLS"):
        with_wallet(make_wallet(protocol="tcp"), "shop_high", WALLET_PASSWORD)


@pytest.fixture
def trusted(tmp_path, monkeypatch):
    """The authority is one of those that the system trusts."""
    file = tmp_path / "ca.pem"
    CA.cert_pem.write_to_path(str(file))
    monkeypatch.setenv("SSL_CERT_FILE", str(file))


def test_tls_without_wallet(make_server, trusted):
    """Where no certificate is asked for, the connection arrives without a wallet; none
    is offered."""
    server = make_server(mutual=False)
    cause = reason(without_wallet(f"tcps://localhost:{server.port}/shop_high"))
    assert "DPY-6001" in str(cause)
    assert "(SERVICE_NAME=shop_high)" in server.asked[0]
    assert server.client_certificates == [{}]


def test_tls_without_wallet_verifies(make_server, trusted):
    """Without a wallet the server is verified as well: a certificate for another host
    is refused."""
    server = make_server("other.example.com", mutual=False)
    cause = reason(without_wallet(f"tcps://localhost:{server.port}/shop_high"))
    assert "DPY-6006" in str(cause)
    assert server.asked == []


def test_tls_without_wallet_trusts_the_system_alone(make_server):
    """Without a wallet, a certificate of an authority that the system does not know is
    refused."""
    server = make_server(mutual=False)
    cause = reason(without_wallet(f"tcps://localhost:{server.port}/shop_high"))
    assert isinstance(cause, ssl.SSLCertVerificationError)


def test_mutual_tls_is_required(make_server, trusted):
    """A database that requires the certificate does not let in a client without one."""
    server = make_server()
    assert reason(without_wallet(f"tcps://localhost:{server.port}/shop_high"))
    assert server.asked == []


def test_silent_server(make_wallet):
    """A server that takes the connection and says nothing is waited for: no limit
    covers the TLS handshake."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        wallet = make_wallet(sock.getsockname()[1])
        params = with_wallet(wallet, "shop_high", WALLET_PASSWORD)
        params.set(tcp_connect_timeout=0.05)
        with ThreadPoolExecutor() as pool:
            connecting = pool.submit(reason, params)
            accepted, _ = sock.accept()
            with accepted:
                assert accepted.recv(1)  # the driver began the handshake
                with pytest.raises(FutureTimeout):
                    connecting.result(0.5)  # ten times the limit
            assert connecting.result(20)


def test_no_secret_is_shown(make_server, make_wallet, caplog, capsys):
    """Neither password is in what is logged or printed, in the parameters as they are
    shown, in the address, or in an error and its causes."""
    caplog.set_level(logging.DEBUG)
    server = make_server()
    wallet = make_wallet(server.port)
    params = with_wallet(wallet, "shop_high", WALLET_PASSWORD)
    params.set(retry_count=0)
    shown = [repr(params), str(params), params.get_connect_string()]
    for attempt in (
        lambda: connect(params, "cook", PASSWORD),
        lambda: check(wallet, WALLET_PASSWORD[:-1]),
        lambda: with_wallet(wallet, "none", WALLET_PASSWORD),
    ):
        try:
            attempt()
        except (oracledb.Error, ValueError) as error:
            shown += traceback.format_exception(error)
    out = "".join((*shown, *server.asked, caplog.text, *capsys.readouterr()))
    assert "DPY-6005" in out
    assert "hunter2" not in out
    assert "Wallet-hunter" not in out


def test_login(oracle):
    """With a server behind it, the login succeeds, and a round trip has an end."""
    user, password, address = oracledb.ConnectParams().parse_dsn_with_credentials(
        oracle
    )
    params = oracledb.ConnectParams()
    params.parse_connect_string(address)
    with connect(params, user, password) as conn:
        assert (conn.username, conn.call_timeout) == (user, 30_000)


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


@pytest.fixture
def impatient(make_wallet):
    """A wallet whose tnsnames.ora asks for no second attempt."""

    def make(port):
        wallet = make_wallet(port)
        names = wallet / "tnsnames.ora"
        names.write_text(names.read_text().replace("retry_count=20", "retry_count=0"))
        return wallet

    return make


def test_often_copied_does_not_read_the_wallet(make_server, impatient, trusted):
    """Often copied: `config_dir` alone. The wallet is not read: no certificate is
    offered, and the database hangs up, even if the system trusts its authority."""
    server = make_server()
    with pytest.raises(oracledb.OperationalError):
        connect_as_copied(str(impatient(server.port)), "cook", "cook", WALLET_PASSWORD)
    assert (server.asked, server.client_certificates) == ([], [])


def test_often_copied_does_not_trust_its_authority(make_server, impatient):
    """Often copied: `CERTIFICATE_VERIFY_FAILED`, as without any wallet, where the
    authority is the wallet's."""
    server = make_server()
    with pytest.raises(oracledb.OperationalError) as caught:
        connect_as_copied(str(impatient(server.port)), "cook", "cook", WALLET_PASSWORD)
    assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


def test_often_copied_compares_no_names(make_server, impatient):
    """Often copied: what tnsnames.ora says about names is obeyed. With
    `ssl_server_dn_match=no` any server of that authority is let through."""
    server = make_server("other.example.com")
    wallet = impatient(server.port)
    with pytest.raises(oracledb.OperationalError) as caught:
        oracledb.connect(
            user="cook",
            password="cook",
            dsn="shop_high",
            config_dir=str(wallet),
            wallet_location=str(wallet),
            wallet_password=WALLET_PASSWORD,
            ssl_server_dn_match=True,
        )
    assert "DPY-6001" in str(caught.value.__cause__)
    assert len(server.asked) == 1
