"""Check the data in a database, keep the results, report them, and raise an alarm."""
