"""Choose a provider for each engine; start, keep and stop the servers.

The order of the providers is the order of `PROVIDERS`: an address in the environment
always wins, a container comes last.
"""

import dataclasses
import os
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from cookbook.catalog import did_you_mean
from cookbook.engines import compose, process
from cookbook.engines import engine as engine_named
from cookbook.engines.base import (
    PROVIDERS,
    Engine,
    Program,
    Provider,
    Server,
    without_password,
)
from cookbook.errors import BrokenServerError, UnavailableError, UnknownNameError


@dataclass(frozen=True)
class Choice:
    """The provider that would serve an engine."""

    provider: Provider
    program: Program | None  # embedded and native
    identity: str  # changes when another server would be started


def forced_provider(name: str | None) -> Provider | None:
    """The provider that `--provider` or COOKBOOK_PROVIDER names.

    Raises UnknownNameError.
    """
    name = name or os.environ.get("COOKBOOK_PROVIDER") or None
    if name is None or name in PROVIDERS:
        return name
    raise UnknownNameError(
        f"there is no provider {name!r}{did_you_mean(name, PROVIDERS)}"
        f" (known: {', '.join(PROVIDERS)})"
    )


def choose(engine: Engine, forced: Provider | None = None) -> Choice:
    """The first provider that can serve. Raises UnavailableError."""
    if engine.is_any:
        raise UnavailableError(f"{engine.title}: name one, such as sqlite")
    if forced == "container" and engine.port is None:
        forced = None  # what has no port needs no container
    for provider in (forced,) if forced else PROVIDERS:
        if choice := _offer(engine, provider):
            return choice
    if forced:
        reason = compose.why_not() if forced == "container" else None
        raise UnavailableError(
            f"no {forced} {engine.title}"
            + (f": {reason}" if reason else "")
            + (f": set {engine.env}" if forced == "external" else "")
        )
    ways = [f"`cookbook fetch {engine.name}`"] if engine.fetches else []
    ways += [engine.install] if engine.install else []
    ways += ["start Docker"] if engine.port else []
    raise UnavailableError(
        f"no {engine.title} here: {', '.join(ways)}, or set {engine.env}"
    )


def _offer(engine: Engine, provider: Provider) -> Choice | None:
    match provider:
        case "external":
            if not engine.external():
                return None
            return Choice(provider, None, _identify_external(engine))
        case "embedded" | "native":
            found = engine.embedded() if provider == "embedded" else engine.native()
            return Choice(provider, found, found.version) if found else None
        case "container":
            if not engine.port or compose.why_not():
                return None
            return Choice(provider, None, compose.image(engine))


def _identify_external(engine: Engine) -> str:
    url = engine.external() or ""
    try:
        return " ".join(engine.identify(url))
    except Exception as error:  # noqa: BLE001 - each driver has its own
        said = without_password(str(error).strip().replace(url, "***"))
        raise UnavailableError(
            f"{engine.env} is set, but {engine.title} cannot be reached there:"
            f" {' '.join(said.split())}. Check the address, or unset {engine.env}"
        ) from None


@dataclass
class Servers:
    """The servers of one run: started together, stopped together."""

    running: dict[str, Server] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)  # engine -> reason
    broken: set[str] = field(default_factory=set)  # those of them that did not start
    _folders: list[Path] = field(default_factory=list)

    def start(
        self, names: Iterable[str], forced: Provider | None = None, keep: bool = False
    ) -> None:
        """Start what is not running yet, all at once.

        What cannot be had is in `missing` afterwards. With keep, the servers outlive
        this process, until `cookbook down`.
        """
        sweep()
        wanted = [name for name in dict.fromkeys(names) if name not in self.running]
        with ThreadPoolExecutor(max_workers=max(1, len(wanted))) as pool:
            starts = {
                name: pool.submit(self._start, engine_named(name), forced, keep)
                for name in wanted
            }
        for name, start in starts.items():
            try:
                self.running[name] = start.result()
                self.missing.pop(name, None)
            except UnavailableError as error:
                self.missing[name] = str(error)
                if isinstance(error, BrokenServerError):
                    self.broken.add(name)

    def _start(self, engine: Engine, forced: Provider | None, keep: bool) -> Server:
        if server := kept_for(engine, forced):
            return server
        choice = choose(engine, forced)
        if choice.provider == "external":
            return _server(engine, choice, engine.external() or "")
        if engine.port is None:  # in process
            return _server(engine, choice, "")
        folder = process.new_folder(engine.name)
        self._folders.append(folder)
        try:
            if choice.provider == "container":
                project = compose.new_project()
                state = process.read_state(folder) or {}
                process.write_state(folder, {**state, "project": project})
                url = compose.start(engine, project, folder)
            else:
                assert choice.program
                url = process.start(engine, choice.program, folder)
            server = _server(engine, choice, url)
        except BaseException:
            _stop(folder)
            raise
        if keep:
            state = process.read_state(folder) or {}
            kept_state = {**state, "owner": None, "kept": dataclasses.asdict(server)}
            process.write_state(folder, kept_state)
            self._folders.remove(folder)
        return server

    def stop(self) -> None:
        """Stop what this run started, all at once."""
        folders, self._folders = self._folders, []
        with ThreadPoolExecutor(max_workers=max(1, len(folders))) as pool:
            list(pool.map(_stop, folders))
        self.running.clear()


def _server(engine: Engine, choice: Choice, url: str) -> Server:
    product, version = engine.identify(url)
    return Server(
        engine=engine.name,
        provider=choice.provider,
        url=url,
        product=product,
        version=version,
        stand_in_for=engine.serves(product),
        identity=choice.identity,
    )


def _stop(folder: Path) -> None:
    state = process.read_state(folder) or {}
    if project := state.get("project"):
        compose.stop(str(project))
    process.stop(folder, state)


def kept() -> dict[str, Server]:
    """The servers that `cookbook up` started and that still run."""
    found = {}
    for _, state in process.states():
        server = state.get("kept")
        if isinstance(server, dict) and not _has_ended(state):
            found[str(server["engine"])] = Server(**server)
    return found


def stop_kept(names: Iterable[str]) -> list[str]:
    """Stop those of the kept servers; return their engines."""
    wanted, stopped = set(names), []
    for folder, state in process.states():
        server = state.get("kept")
        if isinstance(server, dict) and (not wanted or server["engine"] in wanted):
            _stop(folder)
            stopped.append(str(server["engine"]))
    return stopped


def sweep() -> None:
    """Remove the servers whose owner was killed, and what kept servers left behind."""
    for folder, state in process.states():
        owner = state.get("owner")
        orphan = isinstance(owner, dict) and not process.is_alive(owner)
        if orphan or (state.get("kept") and _has_ended(state)):
            _stop(folder)


def _has_ended(state: Mapping[str, object]) -> bool:
    server = state.get("server")
    return isinstance(server, dict) and not process.is_alive(server)


def kept_for(engine: Engine, forced: Provider | None) -> Server | None:
    """The kept server that would serve: an address in the environment wins over it."""
    server = kept().get(engine.name)
    if server and not engine.external() and forced in (None, server.provider):
        return server
    return None


def expected_identity(engine: Engine, forced: Provider | None = None) -> str | None:
    """The identity of the server that would serve; None where none can be had."""
    if server := kept_for(engine, forced):
        return server.identity
    try:
        return choose(engine, forced).identity
    except UnavailableError:
        return None
