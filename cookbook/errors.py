"""The errors that a user can mend; the command line prints them in one line."""


class CookbookError(Exception):
    """Says what is wrong, and what to do."""


class UnknownNameError(CookbookError, LookupError):
    """No recipe, engine or provider has that name; names the nearest."""


class UnavailableError(CookbookError):
    """No server can be had; says why, and what to install or set."""


class BrokenServerError(UnavailableError):
    """A server that is here did not start; the end of its log says why."""
