# /// script
# requires-python = ">=3.11"
# dependencies = ["ibm-db>=3.3"]
# ///
"""Insert or update with MERGE.

One statement looks a row up by its key, and inserts or changes it. Use this to bring a
table up to date; two programs that insert the same new key at once still meet, so a
duplicate is tried again.
"""

import os
import sys
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal

import ibm_db_dbi

NO_SERVER = (
    "Set DB2_DSN, for example DATABASE=COOKBOOK;HOSTNAME=127.0.0.1;PORT=15000;"
    "PROTOCOL=TCPIP;UID=db2inst1;PWD=cook;"
    " after `docker compose up -d --wait db2`"
)

# --8<-- [start:merge]
SCHEMA = """
CREATE TABLE price (
    item VARCHAR(20) NOT NULL PRIMARY KEY,
    amount DECIMAL(9, 2) NOT NULL CHECK (amount > 0),
    quoted TIMESTAMP(6) NOT NULL
)
"""

MERGE = """
MERGE INTO price AS p
USING (VALUES (
    CAST(? AS VARCHAR(20)), CAST(? AS DECIMAL(9, 2)), CAST(? AS TIMESTAMP(6))
)) AS q (item, amount, quoted)
ON p.item = q.item
WHEN MATCHED AND p.quoted < q.quoted THEN
    UPDATE SET amount = q.amount, quoted = q.quoted
WHEN NOT MATCHED THEN
    INSERT (item, amount, quoted) VALUES (q.item, q.amount, q.quoted)
ELSE IGNORE
"""


def set_price(
    conn: "ibm_db_dbi.Connection", item: str, amount: Decimal, quoted: datetime
) -> bool:
    """Store the price, unless a quote that is as new is stored; return whether it was.

    quoted: an aware time, stored in UTC. The caller commits. Raises ValueError for a
    time without a zone or a fraction of a cent, IntegrityError for less than a cent.
    """
    if quoted.utcoffset() is None:
        raise ValueError(f"{quoted} has no time zone")
    if not amount.is_finite() or amount != round(amount, 2):
        raise ValueError(f"{amount} is no amount in cents")  # CAST would cut it
    values = (item, amount, quoted.astimezone(UTC).replace(tzinfo=None))
    with closing(conn.cursor()) as cursor:
        cursor.prepare(MERGE)
        try:
            cursor.execute(None, values)
        except ibm_db_dbi.IntegrityError as error:
            if "SQLSTATE=23505" not in str(error):
                raise
            # Another transaction inserted the key after this one had looked for it. It
            # has committed, or this would still wait: now the row is there.
            cursor.execute(None, values)
        return bool(cursor.rowcount)


# --8<-- [end:merge]


# --8<-- [start:many]
def set_prices(
    conn: "ibm_db_dbi.Connection", prices: Iterable[tuple[str, Decimal, datetime]]
) -> int:
    """Store many prices; return how many were new or newer. The caller commits.

    In the order of their keys: two programs that do so cannot deadlock.
    """
    return sum(set_price(conn, *price) for price in sorted(prices))


# --8<-- [end:many]


def main() -> None:
    dsn = os.environ.get("DB2_DSN") or sys.exit(NO_SERVER)
    monday, tuesday = (datetime(2026, 1, day, tzinfo=UTC) for day in (5, 6))
    limits = "CONNECTTIMEOUT=5;RECEIVETIMEOUT=60;"
    with closing(ibm_db_dbi.connect(limits + dsn, "", "")) as conn:
        with closing(conn.cursor()) as cursor:
            cursor.execute(SCHEMA)
        new = [("tea", Decimal("2.50"), monday), ("rice", Decimal("1.20"), monday)]
        print("new:", set_prices(conn, new))
        print("newer:", set_price(conn, "tea", Decimal("2.70"), tuesday))
        print("late:", set_price(conn, "tea", Decimal("2.60"), monday))
        conn.commit()
        with closing(conn.cursor()) as cursor:
            cursor.execute("SELECT item, amount FROM price ORDER BY item")
            for item, amount in cursor.fetchall():
                print(item, amount)


if __name__ == "__main__":
    main()
