"""The one exception a user is meant to read."""


class InterpError(ValueError):
    """A mistake the user can mend: one line with what was wrong, the value, and the remedy.

    Everything the library refuses (a malformed row, an unknown site, a wrong hash, a prompt beyond
    the context) raises this class or a subclass. The command line prints the message and exits with
    code 2; any other exception is a defect of the library.
    """
