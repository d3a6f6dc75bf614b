"""The two exceptions that callers of the engine handle."""


class UserError(Exception):
    """Bad input. The message is one sentence: what is wrong, where, and what to do."""


class Cancelled(Exception):
    """Raised out of long work after its caller asked for it to stop; nothing was written."""
