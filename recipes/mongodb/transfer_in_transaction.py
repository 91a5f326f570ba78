# /// script
# requires-python = ">=3.11"
# dependencies = ["pymongo>=4.15"]
# [tool.cookbook]
# needs = ["mongodb_replica_set"]
# ///
"""Transfer money between two accounts, in a transaction.

Both documents change or neither does. The caller gives each payment a key, so a payment
that is sent again moves nothing a second time. Transactions need a replica set.
"""

import os
import sys
from decimal import Decimal
from typing import Any

import pymongo
from bson import Decimal128
from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

Document = dict[str, Any]

NO_SERVER = (
    "Set MONGODB_REPLICA_SET_URI, for example"
    " mongodb://127.0.0.1:27019/cookbook?directConnection=true"
    " after `docker compose up -d --wait mongodb_replica_set`"
)


# --8<-- [start:transfer]
def transfer(
    db: Database[Document],
    key: str,
    payer: int,
    payee: int,
    amount: Decimal,
    *,
    timeout: float = 10,
) -> bool:
    """Move amount, and return True; return False if this payment was made before.

    Raises ValueError (amount, payer is payee, the key belongs to another payment) and
    LookupError (no such account, not enough in it): nothing moved. After `timeout`
    seconds PyMongoError: nobody knows. Call again with the same key.
    """
    if not amount.is_finite() or amount <= 0 or amount != round(amount, 2):
        raise ValueError(f"{amount} is no amount to pay")
    if payer == payee:
        raise ValueError(f"account {payer} cannot pay itself")
    cents = round(amount, 2)  # 30.1 and 30.10 are the same payment
    plus, minus = Decimal128(cents), Decimal128(-cents)
    payment = {"_id": key, "payer": payer, "payee": payee, "amount": plus}

    def move(session: ClientSession) -> bool:
        """May run several times: it changes nothing outside of the transaction."""
        made = db["payment"].find_one({"_id": {"$eq": key}}, session=session)
        if made:
            if made != payment:
                raise ValueError(f"{key!r} is the key of another payment")
            return False
        db["payment"].insert_one(payment, session=session)
        debit = db["account"].update_one(
            {"_id": payer, "balance": {"$gte": plus}},
            {"$inc": {"balance": minus}},
            session=session,
        )
        if not debit.matched_count:  # no error to MongoDB
            raise LookupError(f"no account {payer} that holds {amount}")
        credit = db["account"].update_one(
            {"_id": payee}, {"$inc": {"balance": plus}}, session=session
        )
        if not credit.matched_count:
            raise LookupError(f"there is no account {payee}")
        return True

    with pymongo.timeout(timeout), db.client.start_session() as session:
        return session.with_transaction(  # again after a conflict or a lost line
            move,
            read_concern=ReadConcern("snapshot"),
            write_concern=WriteConcern("majority"),
        )


# --8<-- [end:transfer]


def main() -> None:
    uri = os.environ.get("MONGODB_REPLICA_SET_URI") or sys.exit(NO_SERVER)
    with MongoClient[Document](uri, timeoutMS=10_000) as client:
        db = client.get_default_database()
        db["account"].insert_many(
            {"_id": number, "balance": Decimal128(balance)}
            for number, balance in ((1, "100.00"), (2, "50.00"))
        )
        for call in ("first", "second"):
            moved = transfer(db, "invoice-1001", 1, 2, Decimal("30.10"))
            print(f"{call} call moved money: {moved}")
        try:
            transfer(db, "invoice-1002", 1, 2, Decimal(500))
        except LookupError as error:
            print("refused:", error)
        for account in db["account"].find().sort("_id"):
            print("account", account["_id"], "holds", account["balance"])


if __name__ == "__main__":
    main()
