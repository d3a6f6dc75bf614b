"""One label map of a file or a folder, or none, through a loaded model; resumable."""

from __future__ import annotations

from collections.abc import Mapping

from ..compute.memory import out_of_memory_as_user_error
from ..volumes.reading import read_label_map
from .labels import left_out
from .outputs import Request
from .results import is_finished, write_sample
from .settings import Settings
from .synthesis import OnCosts, OnStep
from .synthesizer import Synthesizer


def run_request(
    request: Request,
    synthesizer: Synthesizer,
    settings: Settings,
    overrides: Mapping[int, str],
    *,
    overwrite: bool,
    on_step: OnStep = lambda step: None,
    on_costs: OnCosts = lambda costs: None,
) -> int:
    """Make the samples of one request that are not there yet; returns how many were made.

    A request without a label map is one of volumes that the model makes by itself.

    Every check comes before any work. With ``overwrite`` all are made. Raises UserError; samples
    written before it stay, whole.
    """
    with out_of_memory_as_user_error():
        if request.source is None:
            synthesis = synthesizer.prepare_without_labels(settings)
        else:
            labels = read_label_map(request.source, left_out(overrides))
            synthesis = synthesizer.prepare(
                labels, settings, name=request.name, overrides=overrides
            )
        lacking = [
            index
            for index, files in enumerate(request.samples)
            if overwrite
            or not is_finished(files, [synthesis.recipe(index, c.name) for c in request.channels])
        ]
        if not lacking:
            return 0
        colors = {label.value: label.color for label in synthesizer.model.labels}
        for sample in synthesis.samples(only=lacking, on_step=on_step, on_costs=on_costs):
            wanted = [v for v in sample.volumes if v.channel in request.channels]
            write_sample(wanted, request.samples[sample.index], sample.labels, colors)
    return len(lacking)
