"""The two exceptions that callers of the engine handle, as a sentence that can be printed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from os import PathLike

_LONGEST = 300
"""Letters of an error's own words that are passed on."""


def printable(text: str) -> str:
    """The text with a space in place of each character that is not printed, such as line ends and
    the escape sequences of terminals."""
    return "".join(c if c.isprintable() else " " for c in text)


class UserError(Exception):
    """Bad input: what is wrong, where, and what to do, as fields that a front end puts into words.

    ``problem`` is a clause; where ``path`` is given it begins with the verb, and the path is its
    subject. ``detail`` follows it in brackets: what another program said, a value. ``remedy`` is an
    instruction in neutral words, without full stop. ``code`` names the kind of problem: a front end
    that has its own words for problem or remedy finds them by it. The message is the sentence in
    neutral words.
    """

    def __init__(
        self,
        problem: str,
        remedy: str = "",
        *,
        path: str | PathLike[str] | None = None,
        code: str = "input",
        detail: str = "",
    ) -> None:
        self.problem = problem
        self.remedy = remedy
        self.path = path
        self.code = code
        self.detail = detail
        super().__init__(self.sentence())

    def sentence(
        self,
        remedies: Mapping[str, str] | None = None,
        problems: Mapping[str, str] | None = None,
    ) -> str:
        """The error as one sentence; ``remedies`` and ``problems`` are a front end's, by code.

        It is one line that can be printed whatever names of files and labels are in it.
        """
        problem = (problems or {}).get(self.code, self.problem)
        remedy = (remedies or {}).get(self.code, self.remedy)
        where = "" if self.path is None else f"{self.path} "
        detail = f" ({self.detail})" if self.detail else ""
        return printable(f"{where}{problem}{detail}{f': {remedy}' if remedy else ''}.")


def unexpected(error: Exception) -> UserError:
    """Whatever went wrong as a UserError: one is returned as it is, all else asks for a report."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
        return UserError(
            f"cannot be used ({error.strerror})", "see to its permissions and the disk", path=name
        )
    return UserError(
        f"Something unexpected happened ({type(error).__name__}: {str(error)[:_LONGEST]})",
        "please report it",
        code="unexpected",
    )


class Cancelled(Exception):
    """Raised out of long work after its caller asked for it to stop; nothing was written."""
