"""The two exceptions that callers of the engine handle."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike


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
        """The error as one sentence; ``remedies`` and ``problems`` are a front end's, by code."""
        problem = (problems or {}).get(self.code, self.problem)
        remedy = (remedies or {}).get(self.code, self.remedy)
        where = "" if self.path is None else f"{self.path} "
        detail = f" ({self.detail})" if self.detail else ""
        return f"{where}{problem}{detail}{f': {remedy}' if remedy else ''}."


class Cancelled(Exception):
    """Raised out of long work after its caller asked for it to stop; nothing was written."""
