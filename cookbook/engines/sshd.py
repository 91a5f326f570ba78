"""OpenSSH's server. A place is a server of its own, with keys of its own.

It lets one user in, by key, to forward ports and for nothing else.
"""

import os
import pwd
import re
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from cookbook.engines import process
from cookbook.engines.base import Engine, Program, Server, Starter
from cookbook.errors import UnavailableError

_SETTINGS = {
    "ListenAddress": "127.0.0.1",
    "AllowTcpForwarding": "local",
    "AuthenticationMethods": "publickey",
    "ForceCommand": "/bin/false",
    "GatewayPorts": "no",
    "LogLevel": "VERBOSE",
    "PermitTTY": "no",
    "PidFile": "none",
    "StrictModes": "no",  # its directory is not the user's home
    "UsePAM": "yes",
    "X11Forwarding": "no",
}


class OpenSSH(Engine):
    name = "sshd"
    title = "OpenSSH"
    env = "SSH_URL"
    example = "ssh://cook@127.0.0.1:22/?identity=id_ed25519&known_hosts=known_hosts"
    install = "apt-get install openssh-server openssh-client"

    starter = Starter(
        body="""\
with socket.create_connection((urlsplit(address).hostname, urlsplit(address).port)):
    return 42""",
        standard=("import socket", "from urllib.parse import urlsplit"),
    )

    @property
    def no_server(self) -> str:
        return f"Set {self.env}, for example {self.example}"

    def native(self) -> Program | None:
        folders = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin"])
        found = shutil.which("sshd", path=folders)
        if not found or not shutil.which("ssh-keygen") or not shutil.which("ssh"):
            return None
        # It knows no --version, and names itself when it says so.
        said = subprocess.run([found, "--version"], capture_output=True, text=True)
        version = re.search(r"OpenSSH_[^,\s]+", said.stdout + said.stderr)
        return Program(Path(found), version[0]) if version else None

    def identify(self, url: str) -> tuple[str, str]:
        if not url:
            program = self.native()
            if not program:
                raise UnavailableError(f"no {self.title} here: {self.install}")
            return self.title, program.version.removeprefix("OpenSSH_")
        parts = urlsplit(url)
        at = (parts.hostname, parts.port or 22)
        with socket.create_connection(at, timeout=5) as line, line.makefile() as lines:
            found = re.match(r"SSH-2\.0-OpenSSH_(\S+)", lines.readline())
        if not found:
            raise ValueError("it is not OpenSSH")
        return self.title, found[1]

    def create_place(self, server: Server, name: str) -> str:
        if server.url:
            return server.url  # somebody's own
        program = self.native()
        assert program
        return process.start(self, program, process.new_folder(self.name))

    def drop_place(self, server: Server, url: str) -> None:
        if not server.url:
            (known,) = parse_qs(urlsplit(url).query)["known_hosts"]
            folder = Path(known).parent
            process.stop(folder, process.read_state(folder) or {})

    def prepare(self, program: Program, folder: Path, password: str) -> None:
        """The host's key is the server's own; the user's is the client's."""
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "cookbook", "-f"]
        host, user = folder / "data" / "host", folder / "id_ed25519"
        process.run_as_server_user([*keygen, str(host)], folder)
        subprocess.run([*keygen, str(user)], check=True, capture_output=True)
        user.with_suffix(".pub").chmod(0o644)

    def command(self, program: Program, folder: Path, port: int) -> list[str]:
        kind, key = (folder / "data" / "host.pub").read_text().split()[:2]
        known = folder / "known_hosts"
        known.write_text(f"[127.0.0.1]:{port} {kind} {key}\n")
        settings = {
            **_SETTINGS,
            "Port": str(port),
            "HostKey": str(folder / "data" / "host"),
            "AuthorizedKeysFile": str(folder / "id_ed25519.pub"),
        }
        options = [f"-o{name}={value}" for name, value in settings.items()]
        return [str(program.path), "-D", "-e", "-f", "/dev/null", *options]

    def url(self, folder: Path, port: int, password: str) -> str:
        user = pwd.getpwuid(os.geteuid()).pw_name
        with suppress(FileNotFoundError):  # root's servers run as another user
            user = (folder / "data" / "host").owner()
        files = f"identity={folder / 'id_ed25519'}&known_hosts={folder / 'known_hosts'}"
        return f"ssh://{user}@127.0.0.1:{port}/?{files}"
