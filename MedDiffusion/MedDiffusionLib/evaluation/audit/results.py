"""What an audit found, as ``audit.json``: verdict, figures, and all numbers that they come from."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundles.manifest import Audit, Manifest
from ...compute.errors import UserError
from ...compute.files import file_sha256
from ...compute.parsing import read_json
from ...compute.version import __version__
from ..figures.intervals import Interval
from ..json_arrays import listed
from .audit import Measured
from .detector import alike
from .evidence import Cases, Evidence, Floats, Planted, Samples, correlations
from .request import AuditedCases, AuditRequest
from .verdict import Judged, judge

JSON_NAME = "audit.json"
FORMAT = 1
_MOST_BYTES = 2**30


def numbers_of(cases: AuditedCases, measured: Measured) -> dict[str, Any]:
    """The numbers that are judged, with whose they are. Features are float32 in base64."""
    evidence = measured.evidence
    real, samples = evidence.cases, evidence.samples
    return {
        "cases": [
            {
                "name": file.name,
                "part": "training" if real.is_member[n] else "held out",
                "patient": file.group,
                "files_sha256": cases.digests[n],
                "seen_by_encoder": bool(real.is_seen[n]),
                "loss": listed(real.losses[n]),
                "features": _packed(real.features[n]),
            }
            for n, file in enumerate(cases.files)
        ],
        "samples": [
            {
                "case": cases.files[int(own)].name,
                "seed": measured.seeds[n],
                "voxels_sha256": measured.digests[n],
                "similarity_outside_labels": listed(samples.outside[n]),
                "features": _packed(samples.features[n]),
            }
            for n, own in enumerate(samples.cases)
        ],
        "planted": {
            kind: [
                {"case": cases.files[int(own)].name, "features": _packed(features)}
                for own, features in zip(planted.cases, planted.features, strict=True)
            ]
            for kind, planted in evidence.planted.items()
        },
    }


def evidence_of(content: Mapping[str, Any]) -> Evidence:
    """The inverse of :func:`numbers_of`."""
    cases, samples = content["cases"], content["samples"]
    number = {case["name"]: n for n, case in enumerate(cases)}
    groups = sorted({case["patient"] for case in cases})
    return Evidence(
        Cases(
            _unpacked(cases),
            np.array([case["part"] == "training" for case in cases]),
            np.array([case["seen_by_encoder"] for case in cases]),
            np.array([groups.index(case["patient"]) for case in cases]),
            _floats(cases, "loss"),
        ),
        Samples(
            _unpacked(samples),
            np.array([number[sample["case"]] for sample in samples]),
            _floats(samples, "similarity_outside_labels"),
        ),
        {
            kind: Planted(_unpacked(rows), np.array([number[row["case"]] for row in rows]))
            for kind, rows in content["planted"].items()
        },
    )


def report_content(
    request: AuditRequest,
    cases: AuditedCases,
    manifest: Manifest,
    measured: Measured,
    device: str,
) -> tuple[dict[str, Any], Judged]:
    """All of ``audit.json``, and the verdict, which is made of the numbers as they stand there."""
    numbers = numbers_of(cases, measured)
    evidence = evidence_of(numbers)
    judged = judge(evidence, request.seed)
    _add_nearest(numbers, evidence, judged)
    names = [case["name"] for case in numbers["cases"]]
    pairs = [
        {"cases": [names[one], names[other]], "distance": listed(1 - similarity)}
        for one, other, similarity in alike(evidence.cases, judged.detector)
    ]
    settings = asdict(request.settings.resolve(manifest))
    content = {
        "format": FORMAT,
        "meddiffusion": __version__,
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "model": {
            "name": manifest.name,
            "version": manifest.version,
            "weights_sha256": manifest.weights.sha256 if manifest.weights else "",
        },
        "data_sha256": cases.sha256,
        "seed": request.seed,
        "device": device,
        "settings": {k: settings[k] for k in ("steps", "sampler", "guidance")},
        "encoder": {
            **{k: v for k, v in asdict(request.encoder).items() if k != "views"},
            "sha256": measured.encoder_sha256,
        },
        **figures_of(judged),
        "real_cases_that_are_alike": pairs,
        "reidentification": {
            maps: {way: _reidentified(found) for way, found in ways.items()}
            for maps, ways in measured.reidentified.items()
        },
        **numbers,
    }
    return content, judged


def figures_of(judged: Judged) -> dict[str, Any]:
    """The verdict and its figures, as they stand in ``audit.json``."""
    return {
        "verdict": judged.verdict,
        "sentences": list(judged.sentences),
        "detector": {
            "distance": listed(judged.detector.distance),
            "compared_with": judged.detector.size,
            "planted_copies_found": {
                kind: {"found": found.found, "of": found.planted, "proved": found.is_proof}
                for kind, found in judged.proof.items()
            },
        },
        "tests": [
            {
                "name": test.name,
                "null": test.null,
                **_interval(test.found),
                "p": listed(test.p),
                "p_holm": listed(raised),
                "training": test.counts[0],
                "held_out": test.counts[1],
            }
            for test, raised in zip(judged.tests, judged.raised, strict=True)
        ],
        "loss_gap_between_training_cases": _interval(judged.loss_control),
        "copies": {
            "from training label maps": _interval(judged.copies.training),
            "from held-out label maps, own case among the compared": _interval(
                judged.copies.control
            ),
            "from held-out label maps, training cases alone": _interval(judged.copies.held_out),
            "held-out real cases": _interval(judged.copies.real),
        },
    }


def read_report(path: Path) -> dict[str, Any]:
    """The content of an ``audit.json``; raises UserError where it is none, or its figures are not
    those of its numbers."""
    try:
        content = read_json(path, _MOST_BYTES)
        remade = figures_of(judge(evidence_of(content), content["seed"]))
        said = {key: content[key] for key in remade}
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror})", "give a report's audit.json", path=path
        ) from error
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise UserError("is no audit.json", "give a report's audit.json", path=path) from error
    if said != remade:
        raise UserError(
            "has figures that its numbers do not give", "audit the model anew", path=path
        )
    return dict(content)


def card_of(path: Path, content: Mapping[str, Any]) -> Audit:
    """What a model's card says of a report."""
    return Audit(
        content["verdict"], content["date"], content["model"]["weights_sha256"],
        content["data_sha256"], file_sha256(path),
    )  # fmt: skip


def _add_nearest(numbers: dict[str, Any], evidence: Evidence, judged: Judged) -> None:
    """Of each sample the training case nearest to it, and whether it is called a copy."""
    members = np.flatnonzero(evidence.cases.is_member)
    similarity = correlations(evidence.samples.features, evidence.cases.features[members])
    for sample, row, flagged in zip(numbers["samples"], similarity, judged.flagged, strict=True):
        place = int(row.argmax())
        sample["nearest_training_case"] = numbers["cases"][int(members[place])]["name"]
        sample["distance"] = listed(1 - row[place])
        sample["is_copy"] = listed(flagged)


def _interval(found: Interval) -> dict[str, Any]:
    return {key: listed(value) for key, value in asdict(found).items()}


def _reidentified(found: Any) -> dict[str, Any]:
    return {
        "rank_1": _interval(found.rank_one),
        "by_chance": listed(found.chance),
        "area": _interval(found.area),
        "volumes": found.count,
    }


def _packed(features: Floats) -> str:
    return base64.b64encode(features.astype("<f4").tobytes()).decode("ascii")


def _unpacked(rows: Sequence[Mapping[str, Any]]) -> Floats:
    vectors = [np.frombuffer(base64.b64decode(row["features"]), "<f4") for row in rows]
    return np.stack(vectors).astype(np.float64)


def _floats(rows: Sequence[Mapping[str, Any]], key: str) -> NDArray[np.float64]:
    return np.array([row[key] for row in rows], np.float64)
