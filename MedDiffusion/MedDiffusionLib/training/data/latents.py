"""Latents of the cases, encoded once: several strayed views of each, beside its voxels on disk.

A view is a training sample's grid laid over a case. Its latent is float16, before the
representation's scale; its label map is kept packed: a head's takes a tenth of a megabyte, and a
hundredth of the time that laying a turned grid over the labels does.
"""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ...bundles.manifest import Manifest
from ...bundles.model import build_model
from ...compute.errors import Cancelled, UserError
from ...compute.execution import Execution
from ...compute.files import write_json
from ...compute.parsing import read_json
from ...compute.threads import cores
from ...diffusion.representations import Representation, coarsen_mask
from ...volumes.volume import Grid
from .loaded_cases import Case, StoredCase
from .samples import Augmentation, Sample, case_number, known_labels, random_drop, random_grid
from .store import VIEWS_NAME, write_array, writing

_LATENTS, _INSIDE, _LABELS = "latents", "inside", "packed"


@dataclass(frozen=True)
class ViewSettings:
    """How cases are looked at: what the views depend on besides the case itself."""

    count: int
    augmentation: Augmentation
    seed: int


@dataclass(frozen=True)
class EncodedCase:
    """A case with its views, whose latents lie in its folder.

    ``ends``: where the packed label map of each view ends.
    """

    case: StoredCase
    views: tuple[Grid, ...]
    ends: tuple[int, ...]

    def latent(self, view: int) -> NDArray[np.float16]:
        """``[c, x, y, z]`` of a view, before the representation's scale."""
        return np.array(self._mapped(_LATENTS)[view])

    def inside(self, view: int) -> NDArray[np.bool_]:
        """``[1, x, y, z]``: which latent voxels lie inside the scan with all that they cover."""
        return np.array(self._mapped(_INSIDE)[view])

    def labels(self, view: int) -> NDArray[np.integer]:
        """The label indices ``[X, Y, Z]`` of a view."""
        packed = self._mapped(_LABELS)[(0, *self.ends)[view] : self.ends[view]]
        unpacked = zlib.decompress(packed.tobytes())
        array: NDArray[np.integer] = np.frombuffer(unpacked, _label_type(self.case))
        return array.reshape(self.views[view].size)

    def _mapped(self, name: str) -> NDArray:
        array: NDArray = np.load(self.case.folder / f"{name}.npy", mmap_mode="r")
        return array


def view_bytes(manifest: Manifest) -> int:
    """The most bytes that a view takes on disk: its latent, and its label map."""
    with torch.device("meta"):
        latent = math.prod(build_model(manifest).latent_shape)
    return 2 * latent + latent // 2 + math.prod(manifest.grid.size) // 4


def views_of(case: StoredCase, settings: ViewSettings) -> tuple[Grid, ...]:
    """The views of a case: the field of view as it is, then strayed ones.

    They are a function of the seed and of the case's contents, whose digest its folder is named by.
    """
    views = []
    contents = int(case.folder.name[:16], 16)
    for view in range(settings.count):
        random = np.random.default_rng((settings.seed, 3, contents, view))
        views.append(random_grid(case.fov, settings.augmentation, random) if view else case.fov)
    return tuple(views)


def encode_cases(
    cases: Sequence[StoredCase],
    settings: ViewSettings,
    representation: Representation,
    execution: Execution,
    is_stopped: Callable[[], bool] = lambda: False,
    on_case: Callable[[int, int], None] = lambda done, total: None,
) -> list[EncodedCase]:
    """Encode all views of all cases that are not encoded yet; ``on_case``: done, of how many.

    The representation must have no scale: see :func:`unscaled`. Raises Cancelled soon after
    ``is_stopped`` says so; what is encoded then stays. Raises UserError for latents that are not
    finite, and where the folder has no room.
    """
    key = _key(settings, representation)
    encoded = []
    # As many views at once as there are cores: each takes the memory of a field of view.
    with ThreadPoolExecutor(cores()) as pool:
        for done, case in enumerate(cases, start=1):
            views = views_of(case, settings)
            ends = _packed_ends(case, key)
            if ends is None:
                if is_stopped():
                    raise Cancelled
                ends = _encode(case, views, key, representation, execution, pool)
            encoded.append(EncodedCase(case, views, ends))
            on_case(done, len(cases))
    return encoded


@contextmanager
def unscaled(representation: Representation) -> Iterator[None]:
    """Let a representation encode without its scale while the block runs."""
    if not representation.scaled:
        yield
        return
    scale = representation.latent_mean.clone(), representation.latent_deviation.clone()
    representation.latent_mean.zero_()
    representation.latent_deviation.fill_(1)
    try:
        yield
    finally:
        representation.latent_mean.copy_(scale[0])
        representation.latent_deviation.copy_(scale[1])


def encoded_cases(
    cases: Sequence[StoredCase], settings: ViewSettings, representation: Representation
) -> list[EncodedCase]:
    """The cases that were encoded, perhaps by another process; raises UserError where they are not
    there."""
    key = _key(settings, representation)
    encoded = []
    for case in cases:
        ends = _packed_ends(case, key)
        if ends is None:
            raise UserError(
                f"lacks the latents of {case.name}, which the main process has encoded there",
                "use an output folder that all processes see",
                path=case.folder,
            )
        encoded.append(EncodedCase(case, views_of(case, settings), ends))
    return encoded


def all_latents(cases: Sequence[EncodedCase]) -> Iterator[Tensor]:
    """All latents, those of one case ``[V, c, x, y, z]`` after the other, float32, unscaled."""
    for case in cases:
        views = [case.latent(view) for view in range(len(case.views))]
        yield torch.from_numpy(np.stack(views).astype(np.float32))


def scale_of(representation: Representation) -> tuple[Tensor, Tensor]:
    """The mean and the deviation ``[C, 1, 1, 1]`` of a representation's latents, on the CPU."""
    if not representation.scaled:
        return torch.zeros(1, 1, 1, 1), torch.ones(1, 1, 1, 1)
    scale = representation.latent_mean, representation.latent_deviation
    mean, deviation = (part.detach().cpu()[:, None, None, None].clone() for part in scale)
    return mean, deviation


class LatentSamples(Dataset[Sample]):
    """Samples with a view's scaled latent for an image, and the weight of latent voxels.

    Sample ``i`` is a function of the seed and of ``i`` alone.
    """

    def __init__(
        self,
        cases: Sequence[EncodedCase],
        representation: Representation,
        label_dropout: float,
        length: int,
        seed: int,
        outside_weight: float,
    ) -> None:
        self.cases = cases
        self.label_dropout = label_dropout
        self.seed = seed
        self.length = length
        self.outside_weight = outside_weight
        self.mean, self.deviation = scale_of(representation)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        random = np.random.default_rng((self.seed, 1, index))
        encoded = self.cases[case_number(len(self.cases), self.seed, index)]
        number = int(random.integers(len(encoded.views)))
        known = encoded.case.annotated
        annotated = known & ~random_drop(len(known), self.label_dropout, random)
        labels = known_labels(encoded.labels(number), annotated)
        latent = torch.from_numpy(encoded.latent(number)).float()
        weight = np.maximum(encoded.inside(number), np.float32(self.outside_weight))
        return Sample(
            (latent - self.mean) / self.deviation,
            torch.from_numpy(labels),
            torch.from_numpy(annotated.astype(np.float32)),
            torch.from_numpy(weight),
        )


def _encode(
    stored: StoredCase,
    views: Sequence[Grid],
    key: str,
    representation: Representation,
    execution: Execution,
    pool: ThreadPoolExecutor,
) -> tuple[int, ...]:
    """Keep a case's latents and all that goes with them; returns where its label maps end."""
    case = stored.open()
    latents, inside, packed = [], [], []
    for start in range(0, len(views), cores()):
        part = views[start : start + cores()]
        for image, labels, mask in pool.map(lambda view: _seen(case, view), part):
            latents.append(_latent(image, representation, execution))
            packed.append(zlib.compress(labels.astype(_label_type(stored)).tobytes(), 1))
            inside.append(coarsen_mask(mask[None], representation.factors)[0].numpy() > 0)
    array = np.stack(latents)
    if not np.isfinite(array).all():
        raise UserError(
            f"The representation makes NaN or infinite latents of the case {stored.name}",
            "train it anew with a lower learning_rate, and look at the images' intensities",
        )
    with writing(stored.folder):
        # First the description goes, which vouches for the arrays.
        (stored.folder / VIEWS_NAME).unlink(missing_ok=True)
        write_array(stored.folder, _LATENTS, array)
        write_array(stored.folder, _INSIDE, np.stack(inside))
        write_array(stored.folder, _LABELS, np.frombuffer(b"".join(packed), np.uint8))
        ends = np.cumsum([len(part) for part in packed]).tolist()
        write_json(stored.folder / VIEWS_NAME, {"key": key, "ends": ends})
    return tuple(ends)


def _seen(case: Case, view: Grid) -> tuple[Tensor, NDArray[np.integer], Tensor]:
    """Images ``[C, X, Y, Z]``, label indices ``[X, Y, Z]`` and validity ``[1, X, Y, Z]``."""
    mask = torch.from_numpy(case.validity(view).astype(np.float32))[None]
    return torch.from_numpy(case.images_on(view)), case.labels_on(view), mask


@torch.inference_mode()
def _latent(
    image: Tensor, representation: Representation, execution: Execution
) -> NDArray[np.float16]:
    with execution.autocast():
        latent = representation.encode(image[None].to(execution.device))
    # Beyond what half precision holds: infinite, and refused.
    return latent[0].float().cpu().numpy().astype(np.float16)


def _key(settings: ViewSettings, representation: Representation) -> str:
    """What latents depend on besides their case, as a digest."""
    digest = hashlib.sha256(repr(settings).encode())
    for name, tensor in sorted(representation.state_dict().items()):
        if name in ("latent_mean", "latent_deviation"):
            continue
        digest.update(f"{name} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _packed_ends(case: StoredCase, key: str) -> tuple[int, ...] | None:
    """Where the packed label maps of a case's views end; None where it is not encoded."""
    try:
        content = read_json(case.folder / VIEWS_NAME)
    except (OSError, ValueError):
        return None
    if not isinstance(content, dict) or content.get("key") != key:
        return None
    return tuple(int(end) for end in content["ends"])


def _label_type(case: StoredCase) -> type[np.integer]:
    return np.uint8 if len(case.annotated) < 256 else np.int16
