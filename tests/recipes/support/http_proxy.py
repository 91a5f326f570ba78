"""An HTTP proxy that counts, and misbehaves on demand."""

import http.client
import threading
from collections.abc import Callable
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class HttpProxy:
    """Passes requests on to the server at `upstream`, until told not to.

    Each fault below happens once, to the next request to which it applies.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream).netloc
        self.requests: list[tuple[str, str]] = []  # method and path, in their order
        self.failures: list[int] = []  # the status of the next answers
        self.damage_request: tuple[bytes, bytes] | None = None  # what is replaced
        self.damage_answer: tuple[bytes, bytes] | None = None
        self.cut_answer_at: int | None = None  # bytes of the body that come
        self.lose_answer: Callable[[], object] | None = None  # called before it is lost
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,)).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(proxy) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 30

            def _pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                proxy.requests.append((self.command, self.path))
                if proxy.failures:
                    status, headers, answer = proxy.failures.pop(0), [], b""
                else:
                    if proxy.damage_request and proxy.damage_request[0] in body:
                        body = body.replace(*proxy.damage_request)
                        proxy.damage_request = None
                    status, headers, answer = self._ask(body)
                    if proxy.lose_answer and self.command in ("POST", "PUT"):
                        meanwhile, proxy.lose_answer = proxy.lose_answer, None
                        meanwhile()
                        self.close_connection = True
                        return
                    if proxy.damage_answer and proxy.damage_answer[0] in answer:
                        answer = answer.replace(*proxy.damage_answer)
                        proxy.damage_answer = None
                self.send_response_only(status)
                for name, value in headers:
                    if name.lower() not in ("content-length", "transfer-encoding"):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                if (
                    proxy.cut_answer_at is not None
                    and len(answer) > proxy.cut_answer_at
                ):
                    answer, proxy.cut_answer_at = answer[: proxy.cut_answer_at], None
                    self.close_connection = True
                self.wfile.write(answer)

            def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
                conn = http.client.HTTPConnection(proxy._upstream, timeout=30)
                with closing(conn):
                    conn.request(self.command, self.path, body, dict(self.headers))
                    answer = conn.getresponse()
                    return answer.status, answer.getheaders(), answer.read()

            def log_message(self, *_: object) -> None:
                pass

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _pass_on

        return Handler
