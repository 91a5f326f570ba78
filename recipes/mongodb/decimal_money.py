# /// script
# requires-python = ">=3.11"
# dependencies = ["pymongo>=4.15"]
# ///
"""Store money as decimals, exact to the cent.

Python's Decimal goes in and comes out; the database adds and compares it exactly, with
34 digits. Floats, NaN and fractions of a cent are refused before they are stored.
"""

import os
import sys
from decimal import Decimal
from typing import Any

from bson import Decimal128
from bson.codec_options import CodecOptions, TypeCodec, TypeRegistry
from pymongo import MongoClient, ReturnDocument
from pymongo.collection import Collection
from pymongo.database import Database

Document = dict[str, Any]

NO_SERVER = (
    "Set MONGODB_URI, for example"
    " mongodb://127.0.0.1:27018/cookbook?directConnection=true"
    " after `docker compose up -d --wait mongodb`"
)


# --8<-- [start:codec]
class DecimalCodec(TypeCodec):
    """Decimal in Python, decimal128 in the database, and back."""

    python_type = Decimal
    bson_type = Decimal128

    def transform_python(self, value: Decimal) -> Decimal128:
        return Decimal128(value)  # decimal.Inexact beyond 34 digits: never rounded

    def transform_bson(self, value: Decimal128) -> Decimal:
        return value.to_decimal()


def with_decimals(db: Database[Document]) -> Database[Document]:
    """The same database, in which Decimal is a type like any other."""
    codecs = TypeRegistry([DecimalCodec()])
    options: CodecOptions[Document] = CodecOptions(tz_aware=True, type_registry=codecs)
    return db.with_options(options)


# --8<-- [end:codec]


# --8<-- [start:money]
def to_cents(amount: Decimal) -> Decimal:
    """Return the amount with two places. Raises TypeError for what is no Decimal,
    ValueError for NaN, an infinite amount and a fraction of a cent."""
    if not isinstance(amount, Decimal):
        raise TypeError(f"{amount!r} is no Decimal")
    if not amount.is_finite() or amount != round(amount, 2):
        raise ValueError(f"{amount} is no amount of money")
    return round(amount, 2)


def deposit(accounts: Collection[Document], account: str, amount: Decimal) -> Decimal:
    """Add the amount, which may be negative; return the balance.

    Raises LookupError if there is no such account, or not enough in it.
    """
    cents = to_cents(amount)
    after = accounts.find_one_and_update(
        {"_id": {"$eq": account}, "balance": {"$gte": -cents}},
        {"$inc": {"balance": cents}},
        return_document=ReturnDocument.AFTER,
    )
    if after is None:
        raise LookupError(f"no account {account!r} that holds {-cents}")
    balance: Decimal = after["balance"]
    return balance


def total(accounts: Collection[Document]) -> Decimal:
    """Return the sum of all balances, added by the server."""
    pipeline = [{"$group": {"_id": None, "sum": {"$sum": "$balance"}}}]
    with accounts.aggregate(pipeline) as cursor:
        return Decimal(sum(found["sum"] for found in cursor))  # 0 where there are none


# --8<-- [end:money]


def main() -> None:
    uri = os.environ.get("MONGODB_URI") or sys.exit(NO_SERVER)
    with MongoClient[Document](uri, timeoutMS=10_000) as client:
        accounts = with_decimals(client.get_default_database())["account"]
        accounts.insert_many(
            [
                {"_id": "anna", "balance": Decimal("0.00")},
                {"_id": "large", "balance": Decimal("9007199254740993.00")},
            ]
        )
        for _ in range(3):
            balance = deposit(accounts, "anna", Decimal("0.10"))
        print("three times 0.10:", balance)
        print("in all:", to_cents(total(accounts)))
        for amount in (Decimal("-0.31"), Decimal("0.005")):
            try:
                deposit(accounts, "anna", amount)
            except (LookupError, ValueError) as error:
                print("refused:", error)


if __name__ == "__main__":
    main()
