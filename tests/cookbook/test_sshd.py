"""The SSH server: apart from the net, one for each place, and removed."""

from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import pytest

from cookbook import servers
from cookbook.engines import engine, process
from cookbook.engines.base import new_name
from cookbook.errors import UnavailableError
from cookbook.servers import Servers

ONE = engine("sshd")


pytestmark = pytest.mark.usefixtures("alone")


@pytest.fixture(autouse=True)
def _here():
    if not ONE.native():
        pytest.skip(ONE.install)


def test_a_place_is_a_server_of_its_own_and_removed(server):
    assert (server.product, server.stand_in_for) == ("OpenSSH", None)
    places = [ONE.create_place(server, new_name()) for _ in range(2)]
    assert {ONE.identify(place) for place in places} == {("OpenSSH", server.version)}
    found = [psutil.Process(int(s["server"]["pid"])) for _, s in process.states()]
    ports = [urlsplit(place).port for place in places]
    listening = [
        tuple(c.laddr)
        for one in found
        for c in one.net_connections()
        if c.status == "LISTEN"
    ]
    assert sorted(listening) == sorted(("127.0.0.1", port) for port in ports)
    keys = [parse_qs(urlsplit(place).query)["identity"][0] for place in places]
    assert len({Path(key).read_text() for key in keys}) == 2
    assert {Path(key).stat().st_mode & 0o077 for key in keys} == {0}
    for place in places:
        ONE.drop_place(server, place)
    assert not any(one.is_running() for one in found)
    assert list(process.states()) == []
    assert not any(Path(key).exists() for key in keys)


def test_it_serves_from_outside(server, monkeypatch):
    place = ONE.create_place(server, new_name())
    monkeypatch.setenv(ONE.env, place)
    outside = Servers()
    outside.start(["sshd"])
    other = outside.running["sshd"]
    assert (other.provider, ONE.create_place(other, new_name())) == ("external", place)
    ONE.drop_place(other, place)  # it is not ours to stop
    assert ONE.identify(place)
    ONE.drop_place(server, place)


def test_what_is_not_there_is_refused(monkeypatch):
    monkeypatch.setenv(ONE.env, "ssh://cook@127.0.0.1:1/?identity=x&known_hosts=y")
    with pytest.raises(UnavailableError, match="SSH_URL is set, but"):
        servers.choose(ONE)
