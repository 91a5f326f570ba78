# /// script
# requires-python = ">=3.11"
# dependencies = ["psycopg[binary]>=3.2"]
#
# [tool.cookbook]
# needs = ["postgresql"]
# ///
"""Copy only what has changed since the last run.

Remember the transaction that every change belongs to, and read those that had ended when
the run before began. A time stamp or a number cannot tell: a commit may come later.
"""

import os
import sys
from typing import Any

import psycopg

Connection = psycopg.Connection[tuple[Any, ...]]

# --8<-- [start:schema]
SOURCE = """
CREATE TABLE item (
    id      bigint PRIMARY KEY,
    name    text NOT NULL,
    changed xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX ON item (changed);
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.changed := pg_current_xact_id();
        RETURN NEW;
    END
$$;
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON item
    FOR EACH ROW EXECUTE FUNCTION stamp();
"""
TARGET = """
CREATE TABLE item_copy (id bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE watermark (name text PRIMARY KEY, changed xid8 NOT NULL);
INSERT INTO watermark VALUES ('item', '0');
"""
# --8<-- [end:schema]


# --8<-- [start:copy]
def copy_changes(source: Connection, target: Connection) -> int:
    """Copy the rows that changed since the last call; return how many were read.

    Every transaction below the watermark has ended, and so has been read. Those above
    it are read again: the target takes a row twice without harm. Commits at the target.
    """
    with source.transaction(), target.transaction(), target.cursor() as cursor:
        # Waits for another run, and goes on where that one stopped.
        query = "SELECT changed FROM watermark WHERE name = 'item' FOR UPDATE"
        (since,) = one(target.execute(query))
        # One statement, one snapshot: the mark belongs to exactly these rows.
        ...
