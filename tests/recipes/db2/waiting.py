"""Know that a connection waits for a lock, without sleeping for luck."""

import time
from contextlib import closing

import ibm_db_dbi


def wait_until_blocked(dsn: str, count: int = 1) -> None:
    """Return when that many connections of this place wait for a lock."""
    place = dict(part.split("=", 1) for part in dsn.split(";") if part)["PROGRAMNAME"]
    query = (
        "SELECT COUNT(DISTINCT w.REQ_APPLICATION_HANDLE) FROM SYSIBMADM.MON_LOCKWAITS w"
        " JOIN TABLE(MON_GET_CONNECTION(NULL, -1)) c"
        " ON c.APPLICATION_HANDLE = w.REQ_APPLICATION_HANDLE"
        " WHERE c.APPLICATION_NAME = ?"
    )
    deadline = time.monotonic() + 20
    with closing(ibm_db_dbi.connect(dsn, "", "")) as conn:
        while True:
            with closing(conn.cursor()) as cursor:
                cursor.execute(query, (place,))
                (waiting,) = cursor.fetchone()
            conn.commit()
            if waiting >= count:
                return
            assert time.monotonic() < deadline, f"{count} connections never waited"
            time.sleep(0.01)
