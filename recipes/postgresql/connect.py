# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
# ///
"""Connect by URL, by keywords or by service name, and never wait for ever.

Five limits end five ways to hang: an address that does not answer, a statement that
runs too long, a lock, a transaction left open, and a line that died in silence.
"""

import os
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


# --8<-- [start:connect]
def connect(
    conninfo: str = "",
    *,
    statement: str = "30s",
    lock: str = "5s",
    idle_in_transaction: str = "1min",
    **parts: str | int | None,
) -> psycopg.Connection:
    """Connect to conninfo (a URL, or "service=name"), to parts, or to both merged.

    The limits are PostgreSQL intervals. Raises OperationalError; ConnectionTimeout, a
    kind of it, when an address is silent for 5 s (connect_timeout, 2 at least).
    """
    limits = {
        "statement_timeout": statement,
        "lock_timeout": lock,
        "idle_in_transaction_session_timeout": idle_in_transaction,
    }
    defaults: dict[str, str | int | None] = {
        "connect_timeout": 5,
        "keepalives_idle": 30,  # seconds; the system waits for two hours
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "options": " ".join(f"-c {name}={value}" for name, value in limits.items()),
    }
    given = {**conninfo_to_dict(conninfo), **parts}
    return psycopg.connect(make_conninfo("", **{**defaults, **given}))


# --8<-- [end:connect]


# --8<-- [start:url]
def make_url(host: str, port: int, dbname: str, user: str, password: str) -> str:
    """Return a URL of parts that may hold any character, such as @ / : # or %."""
    user, password, dbname = (quote(part, safe="") for part in (user, password, dbname))
    return f"postgresql://{user}:{password}@{host}:{port}/{dbname}"


# --8<-- [end:url]


# --8<-- [start:service]
def write_service_file(path: Path, name: str, parts: dict[str, str]) -> None:
    """Write a file for PGSERVICEFILE. Values stand there as they are, unquoted."""
    lines = [f"[{name}]", *(f"{key}={value}" for key, value in parts.items())]
    path.touch(mode=0o600)  # before the password is in it
    path.write_text("\n".join(lines) + "\n", "utf-8")


# --8<-- [end:service]


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    parts = {key: str(value) for key, value in conninfo_to_dict(url).items()}
    who = "SELECT current_user, current_database()"
    with connect(url) as conn:
        expected = conn.execute(who).fetchone()
        for name in ("statement", "lock", "idle_in_transaction_session"):
            query = "SELECT current_setting(%s)"
            (limit,) = conn.execute(query, (f"{name}_timeout",)).fetchone() or ()
            print(f"{name}_timeout is {limit}")
    with connect(**parts) as conn:
        print("by keywords:", conn.execute(who).fetchone() == expected)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pg_service.conf")
        write_service_file(file, "shop", parts)
        os.environ["PGSERVICEFILE"] = str(file)
        with connect("service=shop") as conn:
            print("by service name:", conn.execute(who).fetchone() == expected)


if __name__ == "__main__":
    main()
