# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2", "pyspark>=4.1"]
#
# [tool.cookbook]
# needs = ["postgresql", "spark"]
# ///
"""Read a PostgreSQL table into Spark by JDBC, in partitions and in one snapshot.

Spark reads each partition on a connection of its own, in a transaction of its own. Use
it when a table is too large for one process. It needs Java 17 or newer.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.sql import SQL, Identifier
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f

DRIVER = "org.postgresql:postgresql:42.7.8"


# --8<-- [start:session]
def open_spark(driver: str) -> SparkSession:
    """Spark on two threads of this machine, on loopback alone.

    driver: PostgreSQL's JDBC driver, as Maven coordinates or as the path of its jar.
    """
    settings = {
        "spark.jars" if driver.endswith(".jar") else "spark.jars.packages": driver,
        "spark.sql.session.timeZone": "UTC",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.memory": "512m",
        "spark.ui.enabled": "false",
    }
    return SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()


# --8<-- [end:session]


# --8<-- [start:options]
def jdbc_options(url: str) -> dict[str, str]:
    """Spark's options for the database at a libpq address, password included."""
    given = {name: str(value) for name, value in conninfo_to_dict(url).items()}
    place = f"{given.pop('host', 'localhost')}:{given.pop('port', '5432')}"
    return {
        "url": f"jdbc:postgresql://{place}/{quote(given.pop('dbname', ''), safe='')}",
        "driver": "org.postgresql.Driver",
        "fetchsize": "10000",  # rows at a time; 0 is a whole partition at once
        "connectTimeout": "5",
        "queryTimeout": "600",
        **given,  # user, password, sslmode, sslrootcert: JDBC has the same names
    }


# --8<-- [end:options]


# --8<-- [start:snapshot]
def predicates(conn: psycopg.Connection, table: str, key: str, count: int) -> list[str]:
    """Conditions on an integer key that hold each row once, about as many rows each."""
    shares = [n / count for n in range(1, count)]
    percentiles = SQL(
        "SELECT percentile_disc(%s::float8[]) WITHIN GROUP (ORDER BY {}) FROM {}"
    ).format(Identifier(key), Identifier(table))
    ((found,),) = conn.execute(percentiles, (shares,)).fetchall()
    bounds = sorted({int(bound) for bound in found or [] if bound is not None})
    if not bounds:
        return ["true"]
    name = Identifier(key).as_string(conn)
    middle = [f"{name} >= {low} AND {name} < {high}" for low, high in pairwise(bounds)]
    first = f"{name} < {bounds[0]} OR {name} IS NULL"
    return [first, *middle, f"{name} >= {bounds[-1]}"]


@contextmanager
def open_table(
    spark: SparkSession, url: str, table: str, key: str, count: int
) -> Iterator[DataFrame]:
    """The table in up to `count` partitions, all of one snapshot.

    Compute inside the block: nothing can join the snapshot when it has ended.
    """
    with psycopg.connect(url, connect_timeout=5) as conn:
        conn.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        ((snapshot,),) = conn.execute("SELECT pg_export_snapshot()").fetchall()
        join = (  # runs first in the transaction of each partition
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ;"
            f" SET TRANSACTION SNAPSHOT '{snapshot}'"
        )
        options = {**jdbc_options(url), "sessionInitStatement": join}
        parts = predicates(conn, table, key, count)
        name = Identifier(table).as_string(conn)
        yield spark.read.jdbc(
            options["url"], name, predicates=parts, properties=options
        )


# --8<-- [end:snapshot]

NO_SERVER = (
    "Set POSTGRESQL_URL, for example postgresql://cook:cook@127.0.0.1:15432/cookbook"
    " after `docker compose up -d --wait postgresql`"
)


def main() -> None:
    url = os.environ.get("POSTGRESQL_URL") or sys.exit(NO_SERVER)
    with psycopg.connect(url, connect_timeout=5) as conn:
        conn.execute("CREATE TABLE sale (id bigint, shop text, amount numeric(12, 2))")
        rows = "SELECT n, 'shop ' || n % 3, n / 100.0 FROM generate_series(1, 9999) n"
        conn.execute(f"INSERT INTO sale {rows}")
        conn.execute("INSERT INTO sale VALUES (NULL, 'shop 0', 0.01)")
    with (
        open_spark(os.environ.get("POSTGRESQL_JDBC_DRIVER", DRIVER)) as spark,
        open_table(spark, url, "sale", "id", count=4) as sale,
    ):
        parts = sale.groupBy(f.spark_partition_id().alias("part")).count()
        print("partitions:", [row["count"] for row in parts.sort("part").collect()])
        for row in sale.groupBy("shop").agg(f.sum("amount")).sort("shop").collect():
            print(*row)


if __name__ == "__main__":
    main()
