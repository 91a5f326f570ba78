# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
# ///
"""Transfer money between two accounts.

Both rows change or neither does, to the cent. The caller gives each payment a key, so
a payment that is sent again after a lost answer moves nothing a second time.
"""

import os
import sys
import time
from collections.abc import Iterable
from decimal import Decimal
from uuid import UUID, uuid4

import psycopg

# --8<-- [start:schema]
SCHEMA = """
CREATE TABLE account (
    id      bigint PRIMARY KEY,
    balance numeric(18, 2) NOT NULL CHECK (balance >= 0)
);
CREATE TABLE payment (
    key    uuid PRIMARY KEY,
    payer  bigint NOT NULL REFERENCES account,
    payee  bigint NOT NULL REFERENCES account,
    amount numeric NOT NULL
        CHECK (amount BETWEEN 0.01 AND 1000000 AND amount = round(amount, 2)),
    CHECK (payer <> payee)
);
"""
# --8<-- [end:schema]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


# --8<-- [start:transfer]
def transfer(
    conn: psycopg.Connection, key: UUID, payer: int, payee: int, amount: Decimal
) -> bool:
    """Move amount, and return True; return False if this payment was made before.

    Raises CheckViolation (amount, overdraft, payer is payee), ForeignKeyViolation (no
    such account), ValueError (the key belongs to another payment). Then nothing moved.
    """
    with conn.transaction():
        named = conn.execute(
            "INSERT INTO payment VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
            (key, payer, payee, amount),
        )
        if not named.rowcount:
            query = "SELECT payer, payee, amount FROM payment WHERE key = %s"
            made = conn.execute(query, (key,)).fetchone()
            if made != (payer, payee, amount):
                raise ValueError(f"{key} is the key of another payment: {made}")
            return False
        # Always the smaller id first: crossing payments queue up, and never deadlock.
        conn.execute(
            "SELECT FROM account WHERE id IN (%s, %s) ORDER BY id FOR NO KEY UPDATE",
            (payer, payee),
        )
        moved = conn.execute(
            "UPDATE account"
            " SET balance = balance + CASE id WHEN payer THEN -amount ELSE amount END"
            " FROM payment WHERE key = %s AND id IN (payer, payee)",
            (key,),
        )
        if moved.rowcount != 2:  # row-level security or a trigger may hide a row
            raise RuntimeError(f"{moved.rowcount} of 2 accounts could be changed")
    return True


# --8<-- [end:transfer]


# --8<-- [start:retry]
def transfer_with_retries(
    url: str,
    key: UUID,
    payer: int,
    payee: int,
    amount: Decimal,
    pauses: Iterable[float] = (0.1, 0.5, 2),
) -> bool:
    """Transfer on a connection of its own; try again after each of pauses (seconds).

    Raises what transfer() raises; after the last pause, OperationalError too: then
    nobody knows whether the money moved. Call again with the same key.
    """

    def attempt() -> bool:
        with psycopg.connect(
            url,
            autocommit=True,  # so transfer() commits, and no statement before it
            connect_timeout=5,
            options="-c statement_timeout=5s",
        ) as conn:
            return transfer(conn, key, payer, payee, amount)

    for pause in pauses:
        try:
            return attempt()
        except psycopg.OperationalError:  # line lost, server restarted, timeout
            time.sleep(pause)
    return attempt()


# --8<-- [end:retry]


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with psycopg.connect(url, connect_timeout=5) as conn:
        conn.execute(SCHEMA)
        conn.execute("INSERT INTO account VALUES (1, 100), (2, 50)")
    key = uuid4()  # made once for a payment, and kept with the order that it pays
    for call in ("first", "second"):
        moved = transfer_with_retries(url, key, 1, 2, Decimal("30.10"))
        print(f"{call} call moved money: {moved}")
    try:
        transfer_with_retries(url, uuid4(), 1, 2, Decimal(500))
    except psycopg.errors.CheckViolation as error:
        print(f"overdraft: {error.diag.constraint_name} refused it")
    with psycopg.connect(url, connect_timeout=5) as conn:
        for row in conn.execute("SELECT id, balance FROM account ORDER BY id"):
            print("account {} holds {}".format(*row))


if __name__ == "__main__":
    main()
