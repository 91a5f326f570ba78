# /// script
# requires-python = ">=3.11"
# dependencies = ["oracledb>=3.4"]
# ///
"""Connect to Oracle Database, and bound what can be bounded.

python-oracledb speaks the protocol by itself (thin mode), so no Oracle Client has to be
installed. Without limits a statement, or a line that died, is waited for without end.
"""

import os
import sys

import oracledb

NO_SERVER = (
    "Set ORACLE_DSN, for example cook/cook@127.0.0.1:11521/FREEPDB1"
    " after `docker compose up -d --wait oracle`"
)


# --8<-- [start:connect]
def connect(
    dsn: str,
    *,
    user: str | None = None,
    password: str | None = None,
    call_timeout: float = 30,
) -> oracledb.Connection:
    """Connect to host:port/service, or to user/password@host:port/service.

    No call takes longer than call_timeout, in seconds: DatabaseError (DPY-4024). Raises
    OperationalError (DPY-6005) when nobody answers; its __cause__ says why.
    """
    milliseconds = round(call_timeout * 1000)
    if milliseconds < 1:
        raise ValueError(f"call_timeout of {call_timeout} s: 0 would wait for ever")
    conn = oracledb.connect(
        dsn,
        user=user,
        password=password,
        tcp_connect_timeout=5,  # seconds, for each address of the host
        expire_time=1,  # minutes: then ask a quiet line whether it lives
    )
    conn.call_timeout = milliseconds
    return conn


# --8<-- [end:connect]


# --8<-- [start:thick]
def use_thick_mode(lib_dir: str | None = None) -> None:
    """Load Oracle Client, before the first connection.

    lib_dir is for macOS and Windows; on Linux the system's loader must find the
    libraries, as ldconfig or LD_LIBRARY_PATH tell it. Raises DatabaseError (DPI-1047)
    when they are not found, ProgrammingError (DPY-2019) when thin mode is in use.
    """
    oracledb.init_oracle_client(lib_dir=lib_dir)


# --8<-- [end:thick]


def main() -> None:
    dsn = os.environ.get("ORACLE_DSN") or sys.exit(NO_SERVER)
    # Or a first connection that hangs holds up those of all other threads.
    oracledb.enable_thin_mode()  # type: ignore[no-untyped-call]
    with connect(dsn) as conn, conn.cursor() as cursor:
        print("thin mode:", conn.thin)
        print("milliseconds for a call:", conn.call_timeout)
        cursor.execute("SELECT 6 * 7 FROM dual")
        print("6 * 7 =", *cursor.fetchone())
    with connect(dsn, call_timeout=0.5) as conn, conn.cursor() as cursor:
        try:
            cursor.execute("BEGIN DBMS_SESSION.SLEEP(10); END;")
        except oracledb.DatabaseError as error:
            print("a call that takes 10 s:", error.args[0].full_code)


if __name__ == "__main__":
    main()
