"""Volumes of an arm that a model makes for a study, and the label maps that are drawn for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from ..compute.errors import Cancelled, UserError
from ..volumes.reading import read_label_map, stem
from .design import Design
from .key import Arm
from .order import Draws
from .request import Generation
from .sources import Source, with_recipe

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Progress:
    """Where the making of a study stands: what is done to which volume of how many."""

    stage: str
    done: int
    total: int


OnProgress = Callable[[Progress], None]
IsCancelled = Callable[[], bool]


@dataclass
class Work:
    """What is made on the way: where, what is to be made there by a model, and who is told."""

    folder: Path
    nonce: str
    on_progress: OnProgress
    is_cancelled: IsCancelled
    planned: dict[Path, tuple[Path, Generation]] = field(default_factory=dict)

    def steps(self, stage: str, items: Sequence[_Item]) -> Iterator[_Item]:
        """The items one by one; raises Cancelled between two of them."""
        for number, item in enumerate(items):
            if self.is_cancelled():
                raise Cancelled
            self.on_progress(Progress(stage, number + 1, len(items)))
            yield item


def planned(generation: Generation, arm: Arm, work: Work) -> list[Source]:
    """The volumes that a model is to make for an arm; none is made yet."""
    labels = generation.labels
    if generation.drawn:
        labels = _drawn_label_maps(generation, arm, work)
    if not labels:
        raise UserError(
            f"There is no label map to make {arm} volumes from", "give a folder of label maps",
            code="study-one-arm",
        )  # fmt: skip
    sources = []
    for path in labels:
        made = work.folder / "made" / arm / f"{stem(path)}.nrrd"
        work.planned[made] = (path, generation)
        sources.append(Source(arm, made, stem(path), made.name))
    return sources


def _drawn_label_maps(generation: Generation, arm: Arm, work: Work) -> tuple[Path, ...]:
    from ..bundles.catalog import find_model
    from ..bundles.generators import load_generator
    from ..bundles.manifest import read_manifest
    from ..volumes.writing import write_volume

    bundle = find_model(generation.model)
    shapes = load_generator(bundle, read_manifest(bundle))
    draws = Draws(f"label maps\n{arm}\n{work.nonce}")
    folder = work.folder / "labels" / arm
    folder.mkdir(parents=True)
    paths = [folder / f"{arm}-{n:03}.nrrd" for n in range(1, generation.drawn + 1)]
    for path in work.steps("drawing label maps", paths):
        write_volume(path, shapes.sample(draws.below(2**31 - 1)))
    return tuple(paths)


def generated(drawn: Design, work: Work) -> Design:
    """The design with those of its volumes made that a model is to make."""
    if not work.planned:
        return drawn
    from ..synthesis.settings import Settings
    from ..synthesis.synthesizer import Synthesizer, load

    loaded: dict[str, Synthesizer] = {}
    draws = Draws(f"seeds\n{work.nonce}")
    wanted = [s for case in (*drawn.cases, *drawn.training) for s in case if s.path in work.planned]
    for source in work.steps("synthesizing", wanted):
        path, generation = work.planned[source.path]
        if generation.model not in loaded:
            loaded[generation.model] = load(generation.model, generation.device)
        source.path.parent.mkdir(parents=True, exist_ok=True)
        # On the model's own grid: what lies outside of it would be constant.
        settings = Settings(seed=draws.below(2**31 - 1), native=True)
        (sample,) = loaded[generation.model].samples(
            read_label_map(path),
            settings,
            name=path.name,
            on_step=lambda step: _check_cancelled(work),
        )
        sample.volumes[0].save(source.path)
    made = {source.path: with_recipe(source) for source in wanted}

    def rows(cases: Iterable[tuple[Source, ...]]) -> tuple[tuple[Source, ...], ...]:
        return tuple(tuple(made.get(s.path, s) for s in case) for case in cases)

    return replace(drawn, cases=rows(drawn.cases), training=rows(drawn.training))


def _check_cancelled(work: Work) -> None:
    if work.is_cancelled():
        raise Cancelled
