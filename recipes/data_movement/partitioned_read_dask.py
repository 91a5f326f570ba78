# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "dask[dataframe]>=2026.1",
#     "distributed>=2026.1",
#     "pandas>=2.3",
#     "psycopg[binary]>=3.2",
# ]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Read a PostgreSQL table with many processes, as one Dask data frame.

Each process reads its own range of a key, all of them in one snapshot. Use it when one
process is too slow, or when the table does not fit into the memory of one machine.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import dask.dataframe as dd
import pandas as pd
import psycopg
from dask.distributed import Client, LocalCluster
from psycopg.sql import SQL, Composed, Identifier, Literal

# --8<-- [start:read]
OPTIONS = (
    "-c default_transaction_isolation=repeatable\\ read -c statement_timeout=10min"
)


def partitions(
    conn: psycopg.Connection, table: str, key: str, count: int
) -> list[Composed]:
    """Conditions that hold each row of the table exactly once, NULL keys included.

    About as many rows each: the bounds are percentiles of the key, not its range cut
    into equal pieces.
    """
    shares = [n / count for n in range(1, count)]
    k, t = Identifier(key), Identifier(table)
    query = SQL(
        "SELECT percentile_disc(%s::float8[]) WITHIN GROUP (ORDER BY {}) FROM {}"
    )
    ((found,),) = conn.execute(query.format(k, t), (shares,)).fetchall()
    bounds = sorted(set(found or []) - {None})
    if not bounds:
        return [SQL("true").format()]
    middle = SQL("{0} >= {1} AND {0} < {2}")
    return [
        SQL("{0} < {1} OR {0} IS NULL").format(k, bounds[0]),
        *(middle.format(k, *pair) for pair in pairwise(bounds)),
        SQL("{0} >= {1}").format(k, bounds[-1]),
    ]


def read_part(where: str, url: str, table: str, name: str, like: Any) -> pd.DataFrame:
    """One partition, as of that snapshot, with the columns and types of `like`."""
    columns = SQL(", ").join(map(Identifier, like.columns))
    select = SQL("SELECT {} FROM {} WHERE {}")
    query = select.format(columns, Identifier(table), SQL(where))
    with psycopg.connect(url, connect_timeout=5, options=OPTIONS) as conn:
        conn.execute(SQL("SET TRANSACTION SNAPSHOT {}").format(Literal(name)))
        rows = conn.execute(query).fetchall()
    return pd.DataFrame(rows, columns=like.columns).astype(like.dtypes)


@contextmanager
def open_table(
    url: str, table: str, key: str, types: Mapping[str, str], count: int
) -> Iterator[Any]:
    """The table as a Dask data frame of up to `count` partitions, all in one snapshot.

    types: the columns to read, with pandas' types. Compute inside the block: no process
    can join the snapshot when it has ended (UndefinedObject).
    """
    meta = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in types.items()})
    with psycopg.connect(url, connect_timeout=5, options=OPTIONS) as conn:
        ((name,),) = conn.execute("SELECT pg_export_snapshot()").fetchall()
        parts = [part.as_string(conn) for part in partitions(conn, table, key, count)]
        same = {"url": url, "table": table, "name": name, "like": meta}
        yield dd.from_map(read_part, parts, **same, meta=meta)


# --8<-- [end:read]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)
TYPES = {"id": "Int64", "shop": "string", "cents": "int64"}


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with psycopg.connect(url, connect_timeout=5) as conn:
        conn.execute("CREATE TABLE sale (id bigint, shop text, cents bigint)")
        rows = "SELECT n, 'shop ' || n % 3, n FROM generate_series(1, 9999) n"
        conn.execute(f"INSERT INTO sale {rows}")
        conn.execute("INSERT INTO sale VALUES (NULL, 'shop 0', 1)")
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as here,
        Client(here),
        open_table(url, "sale", "id", TYPES, count=4) as sale,
    ):
        print("partitions:", sale.map_partitions(len).compute().tolist())
        print(sale.groupby("shop")["cents"].sum().compute().sort_index().to_dict())


if __name__ == "__main__":
    main()
