"""Read every change of a table from MySQL's binary log, and apply each exactly once."""
