# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "jinja2>=3.1.6",
#     "matplotlib>=3.10",
#     "pydantic[email]>=2.10",
#     "sqlalchemy>=2.1",
#     "typer>=0.20",
# ]
#
# [tool.cookbook]
# needs = ["database"]
# arguments = ["demo"]
# ///
"""Monitor the quality of data.

Nobody notices bad data until a report is wrong. This application checks tables as a
TOML file says, keeps every result, writes a report, and sends an e-mail where a check
fails or could not run. Let cron call it after each load.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: the folder above it is where the package lies
    folder = Path(__file__).resolve().parent
    sys.path.insert(0, str(folder.parent))
    __package__ = folder.name

from .cli import app

if __name__ == "__main__":
    app(prog_name="monitor")
