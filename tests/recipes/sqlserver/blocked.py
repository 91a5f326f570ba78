"""Wait until connections wait for each other: for tests that force them to meet."""

import time
from contextlib import closing

import mssql_python


def wait_until_blocked(dsn: str, count: int) -> None:
    """Return when that many connections of this database wait for another one."""
    query = (
        "SELECT COUNT(*) FROM sys.dm_exec_requests"
        " WHERE database_id = DB_ID() AND blocking_session_id <> 0"
    )
    with closing(mssql_python.connect(dsn, autocommit=True, timeout=5)) as conn:
        deadline = time.monotonic() + 10
        while conn.execute(query).fetchall()[0][0] != count:
            assert time.monotonic() < deadline, f"{count} connections never waited"
