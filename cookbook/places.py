"""Empty places in running servers, for as long as something runs in them."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from cookbook.engines import engine, serving
from cookbook.engines.base import Address, Server, new_name
from cookbook.errors import UnavailableError
from cookbook.servers import Servers


def own_servers(needs: Iterable[str], servers: Servers) -> list[tuple[str, Server]]:
    """For each need, the first of the engines that serve it.

    Raises UnavailableError, with the reason, where it does not run.
    """
    found = []
    for need in needs:
        name = serving(need)[0].name
        if name not in servers.running:
            raise UnavailableError(servers.missing.get(name, f"no {name}"))
        found.append((need, servers.running[name]))
    return found


@contextmanager
def place(need: str, server: Server, keep: bool = False) -> Iterator[Address]:
    """The address of an empty place, which is dropped afterwards unless it is kept."""
    one = engine(server.engine)
    url = one.create_place(server, new_name())
    try:
        yield Address(engine(need).address_in(one, url))
    finally:
        if not keep:
            one.drop_place(server, url)


@contextmanager
def environment(
    servers: Iterable[tuple[str, Server]], keep: bool = False
) -> Iterator[dict[str, str]]:
    """The variables of a recipe: an empty place for each need, in the server of it."""
    with ExitStack() as stack:
        variables: dict[str, str] = {}
        for need, server in servers:
            address = stack.enter_context(place(need, server, keep))
            variables |= engine(need).variables(address)
        yield {name: Address(value) for name, value in variables.items()}
