# /// script
# requires-python = ">=3.11"
# dependencies = ["pymongo>=4.15"]
# [tool.cookbook]
# needs = ["mongodb_replica_set"]
# ///
"""See whether a query uses its index.

Ask the server for its plan and for what it read, and put the answer into a test. Then
a changed query or a lost index fails the build, and not the service.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from pymongo import MongoClient
from pymongo.collection import Collection

Document = dict[str, Any]

NO_SERVER = (
    "Set MONGODB_REPLICA_SET_URI, for example"
    " mongodb://127.0.0.1:27019/cookbook?directConnection=true"
    " after `docker compose up -d --wait mongodb_replica_set`"
)


# --8<-- [start:explain]
class Plan(NamedTuple):
    stages: list[str]  # from the answer down to the index
    indexes: list[str]  # their names
    keys: int  # entries of indexes that were read
    documents: int  # documents that were read
    returned: int


def explain(
    collection: Collection[Document],
    wanted: Mapping[str, Any],
    sort: Mapping[str, int] | None = None,
) -> Plan:
    """Run the query on the server, and return how it was done."""
    command = {"find": collection.name, "filter": wanted, "sort": sort or {}}
    answer = collection.database.command("explain", command, verbosity="executionStats")
    winner = answer["queryPlanner"]["winningPlan"]
    nodes = list(_walk(winner.get("queryPlan", winner)))  # one level deeper in SBE
    done = answer["executionStats"]
    return Plan(
        [node["stage"] for node in nodes],
        [node["indexName"] for node in nodes if "indexName" in node],
        done["totalKeysExamined"],
        done["totalDocsExamined"],
        done["nReturned"],
    )


def _walk(node: Document) -> Iterator[Document]:
    yield node
    for child in [node.get("inputStage"), *node.get("inputStages", [])]:
        if child:
            yield from _walk(child)


# --8<-- [end:explain]


# --8<-- [start:check]
def faults(plan: Plan, ratio: float = 2) -> list[str]:
    """What is wrong with the plan; an empty list is what a test should expect."""
    found = []
    if "COLLSCAN" in plan.stages:
        found.append("reads the whole collection")
    if "SORT" in plan.stages:
        found.append("sorts in memory")
    if max(plan.keys, plan.documents) > ratio * max(plan.returned, 1):
        read = max(plan.keys, plan.documents)
        found.append(f"reads {read} to return {plan.returned}")
    return found


# --8<-- [end:check]


def main() -> None:
    uri = os.environ.get("MONGODB_REPLICA_SET_URI") or sys.exit(NO_SERVER)
    with MongoClient[Document](uri, timeoutMS=10_000) as client:
        orders = client.get_default_database()["order"]
        orders.insert_many({"customer": n % 10, "placed": n} for n in range(100))
        newest = {"placed": -1}
        print("without index:", faults(explain(orders, {"customer": 3}, newest)))
        orders.create_index({"customer": 1, "placed": -1}, name="by_customer")
        plan = explain(orders, {"customer": 3}, newest)
        print("with an index:", faults(plan), *plan.indexes)
        print(f"read {plan.keys} keys to return {plan.returned}")


if __name__ == "__main__":
    main()
