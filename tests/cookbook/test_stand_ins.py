import threading
from http.client import RemoteDisconnected
from http.server import BaseHTTPRequestHandler
from urllib.request import urlopen

import pytest

from cookbook.stand_ins.http_server import LocalServer


@pytest.mark.parametrize(
    ("error", "is_shown"),
    [(ConnectionResetError, False), (BrokenPipeError, False), (KeyError, True)],
)
def test_only_who_hangs_up_is_no_news(capsys, error, is_shown):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            raise error("on purpose")

    with LocalServer(Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with pytest.raises(RemoteDisconnected):
            urlopen(f"http://127.0.0.1:{server.server_port}", timeout=20)
        server.shutdown()
        thread.join()
    assert ("on purpose" in capsys.readouterr().err) == is_shown


def test_listens_on_loopback_only():
    with LocalServer(BaseHTTPRequestHandler) as server:
        assert server.server_address[0] == "127.0.0.1"
