"""`python -m benchmarks.copier TABLE`: copy it from the address SOURCE to TARGET.

As the page does it, with its progress bar, and with no other imports: its peak of
memory is that of the recipe. Prints the seconds; a refused row is an error.
"""

import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

import sqlalchemy as sa
from rich.console import Console
from rich.progress import track

from recipes.data_movement.copy_table_between_engines import last_key, write_rows
from recipes.data_movement.copy_table_between_engines_read import read_rows
from tests.recipes.support.every_type import engine_for


def main(table: str) -> None:
    started = perf_counter()
    source, target = (engine_for(os.environ[end]) for end in ("SOURCE", "TARGET"))
    with source.connect() as conn:
        total = conn.scalar(sa.select(sa.func.count()).select_from(sa.table(table)))
    with TemporaryDirectory() as folder:
        rows = read_rows(source, table, last_key(target, table, "id"))
        bar = track(rows, table, total=total, console=Console(stderr=True))
        if refused := write_rows(target, table, "id", bar, Path(folder, "refused")):
            sys.exit(f"{refused} rows were refused")
    print(perf_counter() - started)


if __name__ == "__main__":
    main(sys.argv[1])
