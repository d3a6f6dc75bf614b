"""One process of the gradient test: its part of a global batch, summed over all; see there."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import torch
from safetensors.torch import save_file

from MedDiffusionLib.bundles.bundle import build_denoiser, build_representation
from MedDiffusionLib.bundles.manifest import build_manifest
from MedDiffusionLib.compute.distributed import joined
from MedDiffusionLib.diffusion.denoiser import total_weight
from MedDiffusionLib.training.data.cases import find_cases
from MedDiffusionLib.training.data.loaded_cases import load_case
from MedDiffusionLib.training.data.loading import global_batches
from MedDiffusionLib.training.loop.step import accumulate
from MedDiffusionLib.training.plan.settings import read_settings
from training_factory import CPU, make_plan


def main(data: Path, output: Path) -> None:
    """Write loss and gradient of one global batch of 5 as the first process has them."""
    plan = make_plan(batch=5, outside_weight=0.25)
    manifest, settings = build_manifest(plan["manifest"]), read_settings(plan["training"])
    cases = [load_case(c, manifest) for c in find_cases(data / "images", data / "labels").cases]
    torch.manual_seed(0)
    denoiser = build_denoiser(plan["manifest"])
    for parameter in denoiser.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    with joined(CPU.device) as ranks:
        assert ranks.of_first({"rank": ranks.rank, "é": [1, None]}) == {"rank": 0, "é": [1, None]}
        with closing(global_batches(cases, manifest, settings, 0, 3, ranks, CPU.device)) as batches:
            batch = next(batches)
        assert len(batch[0]) == (5 if ranks.world == 1 else 2 + ranks.rank)
        weight = torch.tensor(total_weight(batch[3], 8), dtype=torch.float64)
        total = float(ranks.add(weight))
        representation = build_representation(plan["manifest"])
        loss = accumulate(denoiser, batch, total, 2, CPU, representation)
        loss = float(ranks.add(torch.tensor(loss, dtype=torch.float64)))
        parameters = list(denoiser.parameters())
        ranks.add_gradients(parameters)
        if ranks.first:
            gradients = {str(n): p.grad for n, p in enumerate(parameters) if p.grad is not None}
            save_file({**gradients, "loss": torch.tensor(loss)}, output)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
