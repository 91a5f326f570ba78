# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "python-dotenv>=1.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Keep a .env file for development.

The real environment wins, a password arrives sign by sign, and nobody else can read the
file. In production there is no such file: the platform sets the variables.
"""

import os
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

import psycopg
from dotenv.parser import parse_stream


# --8<-- [start:load]
def read_env_file(path: Path) -> dict[str, str]:
    """The variables of the file, as they are written: nothing in them is expanded.

    Raises PermissionError if others may read it, ValueError for a line that is no
    NAME=value or a name that is there twice, FileNotFoundError.
    """
    values: dict[str, str] = {}
    with path.open(encoding="utf-8", newline="") as file:
        if os.name == "posix" and os.fstat(file.fileno()).st_mode & 0o077:
            raise PermissionError(f"others may use {path}: chmod 600 {path}")
        for found in parse_stream(file):
            line = f"{path}, line {found.original.line}"  # and not what is in it
            if found.error or (found.key and found.value is None):
                raise ValueError(f"{line}: not NAME=value")
            if found.key in values:
                raise ValueError(f"{line}: {found.key} for the second time")
            if found.key and found.value is not None:
                values[found.key] = found.value
    return values


def load_env_file(
    path: Path, environ: MutableMapping[str, str] = os.environ
) -> list[str]:
    """Set what the environment does not have yet; return the names that were set."""
    new = {k: v for k, v in read_env_file(path).items() if k not in environ}
    environ.update(new)
    return sorted(new)


# --8<-- [end:load]


# --8<-- [start:write]
def write_env_file(path: Path, values: Mapping[str, str]) -> None:
    """Write a new file that only its owner may read. Raises FileExistsError."""
    lines = []
    for name, value in values.items():
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        lines.append(f"{name}='{escaped}'\n")

    # Private from its first moment: chmod afterwards would be too late.
    new = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(new, "w", encoding="utf-8", newline="") as file:
        file.writelines(lines)


# --8<-- [end:write]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    path = Path(".env")
    url = "postgresql://nobody@db.example.com/other"
    write_env_file(path, {"POSTGRESQL_URL": url, "API_KEY": "p@ss #1 ${HOME} 'x'"})
    print("set from the file:", load_env_file(path))
    print("as it was written:", os.environ["API_KEY"] == "p@ss #1 ${HOME} 'x'")
    with psycopg.connect(os.environ["POSTGRESQL_URL"], connect_timeout=5) as conn:
        print("the real address:", conn.info.host != "db.example.com")


if __name__ == "__main__":
    main()
