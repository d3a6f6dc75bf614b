"""What a study is to be like, and all that can be refused before anything is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..compute.errors import UserError
from ..volumes.writing import check_writable
from .pipeline import TRIM
from .study import STUDY_NAME, check_reader


@dataclass(frozen=True)
class Generation:
    """Volumes to be made for an arm: by which model, from which label maps (their files), and
    whether each is drawn from the model's own shapes, in which case there is no file yet."""

    model: str
    labels: tuple[Path, ...] = ()
    drawn: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class StudyRequest:
    """What a study is to be like.

    ``real`` and ``synthetic``: folders, or what is to be made by a model; an ``example`` may have
    made ones for both. ``labels``: a folder of label maps, of the same names as the volumes.
    ``per_arm``, ``training``: None takes all, and what the protocol says. ``limits``: intensities
    to clip at in place of percentiles.
    """

    output: Path
    real: Path | Generation
    synthetic: Path | Generation
    labels: Path | None = None
    key: Path | None = None
    protocol: str | Path = "real-or-synthetic"
    readers: tuple[str, ...] = ("R1", "R2")
    per_arm: int | None = None
    training: int | None = None
    repeats_percent: int = 15
    pool_percent: int = 100
    margin: float = 0.1
    seed: int = 0
    title: str = ""
    trim: int = TRIM
    limits: tuple[float, float] | None = None
    example: bool = False

    @property
    def key_path(self) -> Path:
        """The key's file: beside the study where none was asked for."""
        return self.key or self.output.with_name(f"{self.output.name}.key.json")


def check_request(request: StudyRequest) -> None:
    """Raise UserError for what can be said of a request before anything is read."""
    output, key = request.output, request.key_path
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise UserError("exists", "choose another name", path=output, code="study-exists")
    if key.exists():
        raise UserError("exists", "choose another name", path=key, code="study-exists")
    if output.resolve() in (key.resolve(), *key.resolve().parents):
        raise UserError(
            "would lie in the study, where readers could open it",
            "choose a place for the key that readers cannot see",
            path=key,
            code="key-in-study",
        )
    for path in (output, key):
        if other := next((each for each in path.resolve().parents if _is_study(each)), None):
            raise UserError(
                f"would lie in the study {other}", "choose another place", path=path,
                code="study-in-study",
            )  # fmt: skip
    if not output.parent.is_dir():
        raise UserError(f"The folder {output.parent} does not exist", "make it first")
    check_writable(key)
    for reader in request.readers:
        check_reader(reader)
    if not request.readers:
        raise UserError("A study needs a reader", "name one")
    folded = [reader.casefold() for reader in request.readers]
    if twice := [
        r for r, low in zip(request.readers, folded, strict=True) if folded.count(low) > 1
    ]:
        raise UserError(
            f"Two readers have the code {twice[0]}", "give each a code of their own",
            code="reader-twice",
        )  # fmt: skip
    _check_range("The share of repeats in percent", request.repeats_percent, 0, 50)
    _check_range("The share of cases for all readers in percent", request.pool_percent, 0, 100)
    _check_range("The margin", request.margin, 0.001, 0.5)
    _check_range("The seed", request.seed, 0, 2**31 - 1)
    _check_range("What is trimmed", request.trim, 0, 1000)
    if request.limits is not None and not request.limits[0] < request.limits[1]:
        low, high = request.limits
        raise UserError(
            f"The intensities to show are {low:g} to {high:g}", "give the lower one first"
        )
    if request.per_arm is not None:
        _check_range("The number of cases of each arm", request.per_arm, 1, 10_000)
    if request.training is not None:
        _check_range("The number of training cases", request.training, 0, 100)


def _is_study(folder: Path) -> bool:
    return (folder / STUDY_NAME).exists()


def _check_range(what: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise UserError(f"{what} is {value:g}", f"it must lie between {low:g} and {high:g}")
