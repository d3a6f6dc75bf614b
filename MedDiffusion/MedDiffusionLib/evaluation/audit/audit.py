"""An audit from beginning to end: measure the cases, train the encoder, make samples, judge."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...bundles.manifest import Manifest
from ...compute.errors import UserError
from ...compute.memory import out_of_memory_as_user_error
from ...compute.version import __version__
from ...synthesis.region import make_region
from ...synthesis.settings import Settings
from ...synthesis.synthesizer import Synthesizer
from ...volumes.reading import image_files, read_label_map, stem
from ...volumes.variation import Variation
from ...volumes.volume import Volume
from ..cases import Pair, noise_seed, real_case, synthetic
from ..features.contrastive import (
    Contrastive,
    ContrastiveEncoder,
    coarse,
    fitted,
    train_encoder,
)
from .evidence import Cases, Evidence, Planted, Samples, correlations
from .measures import denoising_loss, outside_similarity, planes, shape_of
from .plants import PLANTS
from .reidentify import (
    Reidentified,
    label_similarity,
    reidentified,
    shape_similarity,
    thinned_labels,
)
from .request import (
    PLANTED,
    AuditedCases,
    AuditRequest,
    identity,
    refuse_same,
    sample_plan,
)
from .work import Arrays, Work

OnProgress = Callable[[str, int, int], None]
"""Hears what is done, how much of it, of how much; may raise to stop."""
_VARIED_SEED = 10_000
"""Added to the number of a sample that is made from a varied label map."""


@dataclass(frozen=True, eq=False)
class Measured:
    """All that an audit has measured: what is judged, and what stands in its report.

    ``planes``: three of each case and of each sample; ``seeds`` and ``digests``: the noise and
    the voxels' SHA-256 of each sample; ``reidentified`` by kind of label map and way to compare.
    """

    evidence: Evidence
    case_planes: Sequence[list[NDArray[np.uint8]]]
    sample_planes: Sequence[list[NDArray[np.uint8]]]
    seeds: tuple[int, ...]
    digests: tuple[str, ...]
    encoder_sha256: str
    reidentified: dict[str, dict[str, Reidentified]]


class Audit:
    """The measuring of a model by cases; what is finished is kept in ``work``."""

    def __init__(
        self,
        request: AuditRequest,
        cases: AuditedCases,
        synthesizer: Synthesizer,
        on_progress: OnProgress,
    ) -> None:
        self._request = request
        self._cases = cases
        self._synthesizer = synthesizer
        self._on_progress = on_progress
        self._manifest: Manifest = synthesizer.model.manifest
        self._pairs: dict[int, Pair] = {}
        weights = synthesizer.model.sha256
        self.work = Work(request.output, identity(request, cases, weights, __version__))

    def measure(self) -> Measured:
        """All of it, or what is left of it. Raises UserError for cases that cannot be used."""
        request, cases = self._request, self._cases
        real = [self._case(number) for number in range(len(cases.files))]
        refuse_same([case.name for case in cases.files], [str(each["voxels"]) for each in real])
        extractor = self._extractor(real)
        planted = self._planted(extractor)
        plan = sample_plan(cases, request.samples, request.seed)
        # Case by case, so that each is read once.
        of = {each: self._sample(*each, done, len(plan)) for done, each in enumerate(sorted(plan))}
        made = [of[each] for each in plan]
        own = np.array([case for case, _ in plan])
        evidence = Evidence(
            Cases(_features(extractor, real), cases.is_member, cases.is_seen, cases.patients,
                  np.array([float(each["loss"]) for each in real])),
            Samples(_features(extractor, made), own, np.array([float(x["outside"]) for x in made])),
            planted,
        )  # fmt: skip
        return Measured(
            evidence,
            [_planes(each) for each in real],
            [_planes(each) for each in made],
            tuple(int(each["seed"]) for each in made),
            tuple(str(each["voxels"]) for each in made),
            _sha256_of(extractor.encoder),
            self._reidentified(extractor, evidence, real) if request.reidentify else {},
        )

    def _case(self, number: int) -> Arrays:
        """What is measured of a real case."""
        count = len(self._cases.files)
        self._on_progress("cases", number, count)
        if known := self.work.read(f"case-{number}"):
            return known
        pair = self._read(number)
        model = self._synthesizer.model
        with out_of_memory_as_user_error():
            loss = denoising_loss(
                model, self._synthesizer.execution, pair.real, pair.labels, pair.valid,
                pair.annotated, self._request.seed,
            )  # fmt: skip
        found = {**self._volume(pair.real, pair.valid), **self._shape(pair.labels), "loss": loss}
        return self._kept(f"case-{number}", found)

    def _sample(self, case: int, number: int, done: int, total: int) -> Arrays:
        """What is measured of a sample that the model makes of a case's own label map."""
        self._on_progress("samples", done, total)
        name = f"sample-{case}-{number}"
        if known := self.work.read(name):
            return known
        pair = self._read(case)
        seed = self._request.seed + number
        image = synthetic(self._synthesizer, pair, self._request.settings, seed)
        found = {
            **self._volume(image, pair.valid),
            "outside": outside_similarity(pair.real, image, pair.labels, pair.valid),
            "seed": noise_seed(pair.name, seed),
        }
        return self._kept(name, found)

    def _volume(self, image: NDArray[np.float32], valid: NDArray[np.bool_]) -> Arrays:
        small, share = coarse(image, valid, self._manifest.grid.size)
        pictures = {f"plane{n}": plane for n, plane in enumerate(planes(image))}
        digest = np.array(hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest())
        return {"coarse": small.numpy(), "share": share.numpy(), "voxels": digest, **pictures}

    def _shape(self, labels: NDArray[np.integer]) -> Arrays:
        indices = fitted(labels[None], self._manifest.grid.size)[0]
        return {
            "labels": thinned_labels(indices),
            "shape": shape_of(indices, len(self._manifest.labels)),
        }

    def _read(self, number: int) -> Pair:
        """A case on the model's grid; the last two are remembered."""
        if number not in self._pairs:
            kept = list(self._pairs.items())[-1:]
            pair = real_case(self._cases.files[number], self._synthesizer)
            self._pairs = dict([*kept, (number, pair)])
        return self._pairs[number]

    def _extractor(self, real: Sequence[Arrays]) -> Contrastive:
        """The encoder, trained on the cases that it may learn from."""
        settings = self._request.encoder
        encoder = ContrastiveEncoder(len(self._manifest.channels), settings)
        if known := self.work.read_weights("encoder"):
            encoder.load_state_dict(known)
            encoder.eval().requires_grad_(False)
        else:
            seen = [_tensors(real[int(n)]) for n in np.flatnonzero(self._cases.is_seen)]
            encoder = train_encoder(
                seen, settings, self._request.seed,
                lambda done, total: self._on_progress("encoder", done, total),
            )  # fmt: skip
            self.work.write_weights("encoder", encoder.state_dict())
        return Contrastive(encoder, self._manifest.grid.size)

    def _planted(self, extractor: Contrastive) -> dict[str, Planted]:
        """Copies of training cases, of every kind, as the encoder sees them."""
        random = np.random.default_rng(self._request.seed)
        members = random.permutation(np.flatnonzero(self._cases.is_member))
        others = random.permutation(np.flatnonzero(~self._cases.is_member))
        chosen = [int(members[n % len(members)]) for n in range(PLANTED)]
        rows = []
        for number, case in enumerate(chosen):
            self._on_progress("planted copies", number, PLANTED)
            other = int(others[number % len(others)])
            rows.append(self._copies(number, case, other, extractor))
        own = np.array(chosen)
        return {
            kind: Planted(np.stack([row[f"kind{n}"] for row in rows]), own)
            for n, kind in enumerate(PLANTS)
        }

    def _copies(self, number: int, case: int, other: int, extractor: Contrastive) -> Arrays:
        if known := self.work.read(f"planted-{number}"):
            return known
        second = self._read(other).real
        pair = self._read(case)
        size = pair.real.shape[1:]
        partner = fitted(second, (size[0], size[1], size[2]))
        found = {}
        for kind, plant in enumerate(PLANTS.values()):
            random = np.random.default_rng((self._request.seed, number, kind))
            copy = plant(pair.real, partner, random)
            found[f"kind{kind}"] = extractor.features(copy, pair.valid)
        return self._kept(f"planted-{number}", found)

    def _reidentified(
        self, extractor: Contrastive, evidence: Evidence, real: Sequence[Arrays]
    ) -> dict[str, dict[str, Reidentified]]:
        """Own label maps; and varied ones, where there are some."""
        own, first = np.unique(evidence.samples.cases, return_index=True)
        shapes = [real[case] for case in own]
        found = {
            "own label maps": self._ways(
                evidence.samples.features[first], shapes, own, evidence, real
            )
        }
        if label_maps := self._varied_maps(own):
            made = [self._varied(case, read, n, len(label_maps))
                    for n, (case, read) in enumerate(label_maps.items())]  # fmt: skip
            features = _features(extractor, made)
            cases = np.array(list(label_maps))
            found["varied label maps"] = self._ways(features, made, cases, evidence, real)
        return found

    def _ways(
        self,
        features: NDArray[np.float64],
        shapes: Sequence[Arrays],
        own: NDArray[np.int64],
        evidence: Evidence,
        real: Sequence[Arrays],
    ) -> dict[str, Reidentified]:
        """By each way to compare: the volumes, their label maps, and these's shapes in numbers."""
        one, other = (np.stack([x["labels"] for x in each]) for each in (shapes, real))
        first, second = (np.stack([x["shape"] for x in each]) for each in (shapes, real))
        similarities = {
            "image": correlations(features, evidence.cases.features),
            "label Dice": label_similarity(one, other, len(self._manifest.labels)),
            "shape": shape_similarity(first, second),
        }
        patients, seed = self._cases.patients, self._request.seed
        return {
            way: reidentified(similarity, own, patients, seed)
            for way, similarity in similarities.items()
        }

    def _varied_maps(self, own: NDArray[np.int64]) -> dict[int, Callable[[], Volume]]:
        """Varied label maps by the number of their case, where they are asked for."""
        request = self._request
        if request.varied is not None:
            found = varied_label_maps(request.varied, self._cases)
            return {case: partial(read_label_map, path) for case, path in found.items()}
        if request.vary is None:
            return {}
        return {int(case): partial(self._variant, int(case), request.vary) for case in own}

    def _variant(self, case: int, strength: float) -> Volume:
        """A label map of the same anatomy in another shape."""
        pair = self._read(case)
        assert pair.source is not None  # of a model that knows labels, as all that are audited
        seed = noise_seed(pair.name, self._request.seed)
        return Variation(pair.source).sample(strength, seed).labels

    def _varied(self, case: int, read: Callable[[], Volume], done: int, total: int) -> Arrays:
        """What is measured of a sample from a varied label map of a case."""
        self._on_progress("varied samples", done, total)
        labels = read()
        name = f"varied-{case}-{_digest(labels)}"
        if known := self.work.read(name):
            return known
        pair = replace(self._read(case), source=labels)
        synthesis = self._synthesizer.prepare(labels, Settings(native=True), name=pair.name)
        region = make_region(synthesis.labels, synthesis.grid, self._manifest.labels)
        seed = self._request.seed + _VARIED_SEED
        image = synthetic(self._synthesizer, pair, self._request.settings, seed)
        everywhere = np.ones(image.shape[1:], bool)
        found = {**self._volume(image, everywhere), **self._shape(region.indices[0].numpy())}
        return self._kept(name, found)

    def _kept(self, name: str, found: Arrays) -> Arrays:
        self.work.write(name, found)
        # As it is read in a run that goes on, to the last bit.
        return {key: np.asarray(value) for key, value in found.items()}


def varied_label_maps(folder: Path, cases: AuditedCases) -> dict[int, Path]:
    """The label maps of a folder by the number of the case whose name they have, whole or before an
    underscore's number (``NAME_1.nii.gz``); the first of each. Raises UserError where none has."""
    numbers = {case.name: number for number, case in enumerate(cases.files)}
    found: dict[int, Path] = {}
    for path in image_files(folder):
        name = stem(path)
        number = numbers.get(name, numbers.get(name.rpartition("_")[0]))
        if number is not None:
            found.setdefault(number, path)
    if len(found) < 2:
        raise UserError(
            "has no varied label maps of the cases",
            "give a folder with NAME.nii.gz or NAME_1.nii.gz for each case NAME",
            path=folder,
        )
    return dict(sorted(found.items()))


def _features(extractor: Contrastive, measured: Sequence[Arrays]) -> NDArray[np.float64]:
    return np.stack([extractor.encode(*_tensors(each)) for each in measured])


def _tensors(measured: Arrays) -> tuple[Tensor, Tensor]:
    return torch.from_numpy(measured["coarse"]), torch.from_numpy(measured["share"])


def _planes(measured: Arrays) -> list[NDArray[np.uint8]]:
    return [measured[f"plane{n}"] for n in range(3)]


def _sha256_of(encoder: ContrastiveEncoder) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def _digest(labels: Volume) -> str:
    content = labels.affine.tobytes() + np.ascontiguousarray(labels.array).tobytes()
    return hashlib.sha256(content).hexdigest()[:16]
