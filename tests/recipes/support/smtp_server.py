"""A real SMTP server on this machine: with TLS, a login, and a mailbox to look into."""

import asyncio
import ssl
import threading
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

USER, PASSWORD = "monitor", "correct horse"


class SMTPServer:
    """Listens on a free port. `logins` and `mails` hold what it was given.

    security: "starttls", "tls" from the first byte, or "none".
    certificate_for: the name in its certificate.
    refuses: a recipient that it does not take.
    """

    def __init__(
        self,
        security: str = "starttls",
        certificate_for: str = "localhost",
        refuses: str = "",
    ) -> None:
        self.logins: list[tuple[str, str]] = []
        self.mails: list[EmailMessage] = []
        self._security = security
        self._refuses = refuses
        self._ca = trustme.CA()
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._ca.issue_cert(certificate_for).configure_cert(self._context)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        assert self._ready.wait(30)

    def ca_file(self, folder: Path) -> Path:
        """The certificate of who signed its own, in that folder."""
        path = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(path))
        return path

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await self._loop.create_server(
            self._protocol,
            "127.0.0.1",
            0,
            ssl=self._context if self._security == "tls" else None,
        )
        self.port: int = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()

    def _protocol(self) -> SMTP:
        starttls = self._security == "starttls"
        return SMTP(
            self,
            hostname="localhost",
            loop=self._loop,
            tls_context=self._context if starttls else None,
            require_starttls=starttls,
            auth_required=starttls,
            auth_require_tls=starttls,
            authenticator=self._authenticate,
        )

    def _authenticate(self, server, session, envelope, mechanism, data):
        assert isinstance(data, LoginPassword)
        given = data.login.decode(), data.password.decode()
        self.logins.append(given)
        return AuthResult(success=given == (USER, PASSWORD), handled=False)

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address == self._refuses:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.mails.append(message_from_bytes(envelope.content, policy=policy.default))
        return "250 OK"
