"""Checks of two tables that must agree."""

from sqlalchemy import (
    Connection,
    and_,
    case,
    func,
    inspect,
    literal,
    or_,
    select,
)

from .database import CheckError, column, reflect
from .row_checks import count_bad
from .specs import References, Revenue
from .status import Found


# --8<-- [start:references]
def references(conn: Connection, spec: References) -> Found:
    """Rows that point to a parent that is not there, by the keys named or declared."""
    table = reflect(conn, spec.table, spec.in_schema)
    inspector = inspect(conn)
    keys = inspector.get_foreign_keys(spec.table, spec.in_schema)
    pairs = [
        (key["constrained_columns"], key["referred_table"], key["referred_schema"])
        for key in keys
    ]
    targets = [key["referred_columns"] for key in keys]
    if spec.columns and spec.parent:
        pairs = [(spec.columns, spec.parent, spec.parent_schema)]
        targets = [spec.parent_columns or []]
    if not pairs:
        raise CheckError(f"{spec.table} declares no foreign key: name columns, parent")
    orphans = []
    for (names, parent_name, schema), target in zip(pairs, targets, strict=True):
        parent = reflect(conn, parent_name, schema)
        wanted = target or [key.name for key in parent.primary_key]
        if len(wanted) != len(names):
            raise CheckError(f"{names} cannot point to {wanted} of {parent_name}")
        ours = [column(table, name) for name in names]
        theirs = [column(parent, name) for name in wanted]
        other = parent.alias()  # it may be the same table
        same = [other.c[it.key] == own for it, own in zip(theirs, ours, strict=True)]
        found = select(literal(1)).select_from(other).where(*same).correlate(table)
        orphans.append(and_(*(own.is_not(None) for own in ours), ~found.exists()))
    return count_bad(conn, table, or_(*orphans), "point to a row that is not there")


# --8<-- [end:references]


def revenue(conn: Connection, spec: Revenue) -> Found:
    """Totals that are not the sum of their lines; without lines the sum is 0."""
    table = reflect(conn, spec.table, spec.in_schema)
    lines = reflect(conn, spec.lines, spec.lines_schema)
    amount = column(lines, spec.quantity) * column(lines, spec.unit_price)
    key = column(lines, spec.lines_key)
    sums = (
        select(
            key.label("key"),
            func.sum(amount).label("amount"),
            func.sum(case((amount.is_(None), 1), else_=0)).label("unknown"),
        )
        .group_by(key)
        .subquery()
    )
    total, due = column(table, spec.total), func.coalesce(sums.c.amount, 0)
    near = literal(spec.tolerance)
    bad = or_(total.is_(None), total > due + near, due > total + near)
    bad = or_(bad, sums.c.unknown > 0)
    source = table.outerjoin(sums, column(table, spec.key) == sums.c.key)
    what = f"have a {spec.total} that is not the sum of {spec.lines}"
    return count_bad(conn, table, bad, what, source)
