"""One process of the gradient test: its part of a global batch, summed over all; see there."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import torch
from safetensors.torch import save_file

from MedDiffusionLib.bundles.model import build_model
from MedDiffusionLib.compute.distributed import process_group
from MedDiffusionLib.training.data.cases import find_cases
from MedDiffusionLib.training.data.samples import TrainingSamples
from MedDiffusionLib.training.loop.loading import Batches
from MedDiffusionLib.training.loop.state import initial_state
from MedDiffusionLib.training.loop.step import accumulate
from MedDiffusionLib.training.objectives.denoising import Denoising
from MedDiffusionLib.training.plan.settings import check_manifest, read_settings
from training_factory import CPU, make_plan, prepared


def main(data: Path, output: Path) -> None:
    """Write loss and gradient of one global batch of 5 as the first process has them."""
    plan = make_plan(batch=5, outside_weight=0.25)
    manifest, settings = check_manifest(plan["manifest"]), read_settings(plan["training"])
    files = find_cases(data / "images", data / "labels").cases
    torch.manual_seed(0)
    model = build_model(manifest)
    objective = Denoising(model)
    denoiser = model.denoiser
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    with process_group(CPU.device) as ranks:
        told = ranks.broadcast({"rank": ranks.rank, "é": [1, None]})
        assert told == {"rank": 0, "é": [1, None]}
        cases = prepared(files, output.parent / f"of rank {ranks.rank} of {ranks.world}", manifest)
        samples = TrainingSamples(
            cases, manifest.grid, [1, 2], settings.augmentation, 0.1, 2**40, 0, 0.25
        )
        with closing(Batches(objective.samples(samples, 5), 3, ranks, CPU.device)) as batches:
            batch = next(iter(batches))
        assert len(batch) == (5 if ranks.world == 1 else 2 + ranks.rank)
        weight = torch.tensor(objective.weight(batch), dtype=torch.float64)
        total = float(ranks.all_reduce(weight))
        playing = initial_state(objective.players, settings).trained
        (loss,) = accumulate(objective, playing, batch, total, 2, CPU)
        loss = float(ranks.all_reduce(torch.tensor(loss, dtype=torch.float64)))
        parameters = list(denoiser.parameters())
        ranks.all_reduce_gradients(parameters)
        if ranks.is_main:
            gradients = {str(n): p.grad for n, p in enumerate(parameters) if p.grad is not None}
            save_file({**gradients, "loss": torch.tensor(loss)}, output)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    # The names of the threads that are left.
    print(*(path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")))
