# /// script
# requires-python = ">=3.11"
# dependencies = ["ibm-db>=3.3", "ibm-db-sa>=0.4.4", "sqlalchemy>=2.1"]
# ///
"""Keep a pool of connections.

To connect takes many round trips. The driver has no pool: pconnect() shares one
connection among all callers of a thread. SQLAlchemy's pool lends each connection to one
borrower, and tests it first. Use this in every program with more than one thread.
"""

import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import ibm_db_dbi
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.pool import QueuePool

NO_SERVER = (
    "Set DB2_DSN, for example DATABASE=COOKBOOK;HOSTNAME=127.0.0.1;PORT=15000;"
    "PROTOCOL=TCPIP;UID=db2inst1;PWD=cook;"
    " after `docker compose up -d --wait db2`"
)


# --8<-- [start:pool]
def make_pool(dsn: str, size: int = 5, more: int = 5, wait: float = 5) -> Engine:
    """Return an engine with a pool of up to `size` idle connections.

    `more` may be opened in a rush, and are closed after it. A borrower waits up to
    `wait` seconds for a free one; then sqlalchemy.exc.TimeoutError is raised.
    """
    limits = "CONNECTTIMEOUT=5;RECEIVETIMEOUT=60;"
    engine = create_engine(
        "db2+ibm_db://",  # the dialect of ibm-db-sa, which knows how to ping
        creator=lambda: ibm_db_dbi.connect(limits + dsn, "", ""),
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=more,
        pool_timeout=wait,
        pool_pre_ping=True,  # a dead one is replaced before anybody gets it
        pool_recycle=1800,  # seconds: less than the patience of the firewall
    )
    event.listen(engine, "connect", _limit_lock_waits)
    event.listen(engine, "handle_error", _replace_after_any_failed_ping)
    return engine


def _limit_lock_waits(conn: "ibm_db_dbi.Connection", _: object) -> None:
    with closing(conn.cursor()) as cursor:
        cursor.execute("SET CURRENT LOCK TIMEOUT 10")


def _replace_after_any_failed_ping(context: ExceptionContext) -> None:
    if context.is_pre_ping:  # the dialect knows few of the errors of a lost line
        context.is_disconnect = True


# --8<-- [end:pool]


# --8<-- [start:borrow]
@contextmanager
def transaction(pool: Engine) -> Iterator["ibm_db_dbi.Cursor"]:
    """Lend a cursor for one transaction: committed at the end, undone after an error.

    Then the connection goes back to the pool.
    """
    with closing(pool.raw_connection()) as conn:  # close() gives it back
        with closing(conn.cursor()) as cursor:
            yield cursor
        conn.commit()  # not reached after an error: giving it back rolls back


def in_use(pool: Engine) -> tuple[int, int]:
    """Return how many connections are lent, and how many are idle."""
    queue = pool.pool
    assert isinstance(queue, QueuePool)
    return queue.checkedout(), queue.checkedin()


# --8<-- [end:borrow]


def main() -> None:
    dsn = os.environ.get("DB2_DSN") or sys.exit(NO_SERVER)
    pool = make_pool(dsn, size=2, more=0)
    with transaction(pool) as cursor:
        cursor.execute("CREATE TABLE visit (page VARCHAR(20) NOT NULL)")

    def visit(page: str) -> None:
        with transaction(pool) as cursor:
            cursor.execute("INSERT INTO visit VALUES (?)", (page,))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(visit, map(str, range(20))))
    with transaction(pool) as cursor:
        cursor.execute("SELECT COUNT(*) FROM visit")
        print("visits:", *cursor.fetchone())
        print("lent:", in_use(pool)[0])
    lent, idle = in_use(pool)
    print("lent:", lent, "and no more than two idle:", idle <= 2)
    pool.dispose()


if __name__ == "__main__":
    main()
