# /// script
# requires-python = ">=3.11"
# dependencies = ["influxdb-client>=1.50", "pandas>=3"]
# ///
"""Query into one DataFrame, with the types of the server.

`query_data_frame` gives a list of frames as soon as the series differ, and guesses the
types from the values it met. Here it is always one frame, and the server's types.
"""

import os
import sys
from datetime import UTC, datetime, timedelta

import pandas as pd
from influxdb_client import InfluxDBClient, Point
from influxdb_client.client.flux_table import TableList
from influxdb_client.client.write_api import SYNCHRONOUS

NO_SERVER = (
    "Set INFLUXDB_V2_URL, INFLUXDB_V2_TOKEN, INFLUXDB_V2_ORG and INFLUXDB_V2_BUCKET,"
    " for example to what .env.example says"
    " after `docker compose up -d --wait influxdb`"
)

# --8<-- [start:frame]
DTYPES = {
    "string": "str",
    "double": "float64",
    "long": "Int64",  # the nullable types: exact, also where values are missing
    "unsignedLong": "UInt64",
    "boolean": "boolean",
    "dateTime:RFC3339": "datetime64[us, UTC]",
}


def to_frame(tables: TableList) -> pd.DataFrame:
    """All rows of all tables in one frame; a column that a table lacks is missing.

    Raises TypeError where a column has one type here and another there.
    """
    dtypes: dict[str, str] = {}
    for column in (column for table in tables for column in table.columns):
        dtype = DTYPES[column.data_type]
        if dtypes.setdefault(column.label, dtype) != dtype:
            raise TypeError(f"{column.label} is {dtypes[column.label]} and {dtype}")
    rows = [record.values for table in tables for record in table.records]
    return pd.DataFrame(
        {
            name: pd.Series([row.get(name) for row in rows], dtype=dtype)
            for name, dtype in dtypes.items()
        }
    )


# --8<-- [end:frame]


# --8<-- [start:query]
PIVOT = """
from(bucket: _bucket)
    |> range(start: _start, stop: _stop)
    |> filter(fn: (r) => r._measurement == _name)
    |> drop(columns: ["_start", "_stop", "_measurement"])
    |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
"""


def read_measurement(
    client: InfluxDBClient, bucket: str, name: str, start: datetime, stop: datetime
) -> pd.DataFrame:
    """A row for each series and time in [start, stop), a column for each tag and field.

    Sorted by time; empty, and without columns, where there is nothing. The times are
    cut to microseconds.
    """
    params = {"_bucket": bucket, "_start": start, "_stop": stop, "_name": name}
    frame = to_frame(client.query_api().query(PIVOT, params=params))
    if frame.empty:
        return frame
    frame = frame.drop(columns=["result", "table"]).rename(columns={"_time": "time"})
    return frame.sort_values("time", kind="stable", ignore_index=True)


# --8<-- [end:query]


def main() -> None:
    url, token, org, bucket = (
        os.environ.get(f"INFLUXDB_V2_{name}") or sys.exit(NO_SERVER)
        for name in ("URL", "TOKEN", "ORG", "BUCKET")
    )
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    points = [
        Point("room").tag("sensor", "hall").field("celsius", 20.5).time(noon),
        Point("room")
        .tag("sensor", "attic")
        .tag("floor", "3")
        .field("lux", 2**53 + 1)
        .time(noon + timedelta(minutes=1)),
    ]
    with InfluxDBClient(url, token, org=org, timeout=10_000) as client:
        client.write_api(SYNCHRONOUS).write(bucket, record=points)
        tomorrow = noon + timedelta(days=1)
        frame = read_measurement(client, bucket, "room", noon, tomorrow)
    print(frame[["time", "sensor", "celsius", "lux"]].to_string(index=False))
    print(frame.dtypes[["celsius", "lux"]].to_dict())


if __name__ == "__main__":
    main()
