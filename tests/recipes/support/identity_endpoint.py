"""The token endpoints of Azure, on this machine: App Service's and a virtual machine's.

It is no Entra ID: its tokens are signed by nobody. Like the real ones it asks for the
header that proves the caller is inside, and knows which identities the machine has.
"""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

VM = "/metadata/identity/oauth2/token"
APP_SERVICE = "/msi/token"


class IdentityEndpoint:
    """Listens on a free port. `requests` are the parameters of those it answered.

    tokens: given one after the other, then the last one again.
    lives: for how many seconds a token is good.
    identities: client ids of identities; empty: it has the machine's own.
    """

    def __init__(
        self, *tokens: str, lives: int = 3600, identities: tuple[str, ...] = ()
    ) -> None:
        self.tokens, self.lives, self.identities = list(tokens), lives, identities
        self.header = "the-header-of-this-instance"
        self.requests: list[dict[str, str]] = []
        self._lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            endpoint = self

            def do_GET(self) -> None:
                code, said = self.endpoint.answer(self.path, self.headers)
                body = json.dumps(said).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """It prints nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}
        )
        self._thread.start()

    @property
    def app_service(self) -> dict[str, str]:
        """What App Service, Functions and Container Apps put into the environment."""
        return {
            "IDENTITY_ENDPOINT": f"{self._url}{APP_SERVICE}",
            "IDENTITY_HEADER": self.header,
        }

    @property
    def vm(self) -> dict[str, str]:
        """How a virtual machine's endpoint is found at another address than its own."""
        return {"AZURE_POD_IDENTITY_AUTHORITY_HOST": self._url}

    @property
    def _url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, path: str, headers: object) -> tuple[int, dict[str, str]]:
        get = headers.get  # type: ignore[attr-defined]
        parts = urlsplit(path)
        asked = dict(parse_qsl(parts.query))
        inside = {
            VM: get("Metadata") == "true",
            APP_SERVICE: get("X-IDENTITY-HEADER") == self.header,
        }
        if not inside.get(parts.path):
            return 401, {"error": "unauthorized", "message": "the header is missing"}
        with self._lock:
            self.requests.append(asked)
            known = asked.get("client_id") in (self.identities or (None,))
            if not known or not self.tokens:
                text = "Identity not found"
                refused = {"error": "invalid_request", "error_description": text}
                return 400, {**refused, "statusCode": "400", "message": text}
            several = len(self.tokens) > 1
            token = self.tokens.pop(0) if several else self.tokens[0]
        return 200, {
            "access_token": token,
            "expires_in": str(self.lives),
            "expires_on": str(int(time.time()) + self.lives),
            "resource": asked["resource"],
            "token_type": "Bearer",
        }
