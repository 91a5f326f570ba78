# /// script
# requires-python = ">=3.11"
# dependencies = ["asyncpg>=0.30"]
# ///
"""Connect with asyncpg by URL or by keywords, and never wait for ever.

asyncpg's timeout is that of connecting; the other waits have limits of their own.
"""

import asyncio
import os
import sys

import asyncpg

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


# --8<-- [start:connect]
async def connect(
    url: str | None = None,
    *,
    statement: str = "30s",
    lock: str = "5s",
    idle_in_transaction: str = "1min",
    password: str | None = None,
) -> asyncpg.Connection:
    """Connect to url, in which the password may be left out and given apart.

    The limits are PostgreSQL intervals. Raises TimeoutError after 5 s without an
    answer, and asyncpg's own errors.
    """
    return await asyncpg.connect(
        url,
        password=password,
        timeout=5,
        command_timeout=60,  # ends the wait when the server is gone, limits and all
        server_settings={
            "statement_timeout": statement,
            "lock_timeout": lock,
            "idle_in_transaction_session_timeout": idle_in_transaction,
        },
    )


# --8<-- [end:connect]


async def run(url: str) -> None:
    conn = await connect(url)
    try:
        for name in ("statement", "lock", "idle_in_transaction_session"):
            query = "SELECT current_setting($1)"
            print(f"{name}_timeout is", await conn.fetchval(query, f"{name}_timeout"))
    finally:
        await conn.close()


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    asyncio.run(run(url))


if __name__ == "__main__":
    main()
