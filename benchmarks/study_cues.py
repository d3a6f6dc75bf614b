"""The bundled model's volumes against real scans, as readers of a study are shown them.

    python benchmarks/study_cues.py

A study of the validation scans and of as many volumes that the model makes from their label maps:
what making takes, that nothing but voxels tells the arms apart, and what simple cues in the voxels
tell; beside it the same cues where both arms are blurred, which a study does not do.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from common import arguments, data_folder, hippocampus_names, report
from MedDiffusionLib.statistics.area import Area
from MedDiffusionLib.studies.check import areas_of_cues, check_study
from MedDiffusionLib.studies.cues import CUES
from MedDiffusionLib.studies.key import Key, read_key
from MedDiffusionLib.studies.making import make_study
from MedDiffusionLib.studies.request import Generation, StudyRequest
from MedDiffusionLib.studies.study import Study
from MedDiffusionLib.volumes.reading import read_image

BLURS = (2.0, 4.0)
"""Full widths at half maximum, in mm, which are voxels here."""
NONCE = "0" * 64
"""Makes the same study each time."""


def main() -> None:
    chosen = arguments(__doc__ or "").parse_args()
    names = hippocampus_names("validation", chosen.cases)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for kind in ("images", "labels"):
            (place / kind).mkdir()
            for name in names:
                file = f"{name}.nii.gz"
                (place / kind / file).symlink_to(data_folder() / "hippocampus" / kind / file)
        labels = tuple(sorted((place / "labels").iterdir()))
        request = StudyRequest(
            place / "study", place / "images", Generation(chosen.model, labels),
            place / "labels", training=0,
        )  # fmt: skip
        wall, cpu = time.perf_counter(), time.process_time()
        made = make_study(request, nonce=NONCE)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        key = read_key(made.key, made.study)
        found = check_study(made.study, key)
        if not found.is_blind:
            raise SystemExit(found.describe())
        blurred = [blurred_cues(made.study, key, width) for width in BLURS]
    print(f"{2 * len(names)} volumes made in {wall:.0f} s, {cpu:.0f} s of processor time, "
          f"load {os.getloadavg()[0]:.1f}")  # fmt: skip
    columns = [found.cues, *blurred]
    report(
        "study_cues",
        f"{len(names)} real scans and {len(names)} volumes of {chosen.model}: how often the real "
        "one has more",
        ["cue", "as it is shown", *(f"both blurred by {width:g} mm" for width in BLURS)],
        [[cue, *(said(column[cue]) for column in columns)] for cue in found.cues],
    )


def said(found: Area) -> str:
    mark = " !" if found.tells else ""
    return f"{found.estimate:.2f} [{found.low:.2f}, {found.high:.2f}]{mark}"


def blurred_cues(study: Study, key: Key, width: float) -> dict[str, Area]:
    """The cues of both arms blurred, and shown on as many grey values again."""
    arrays = [blur(read_image(case.files[0]).array, width) for case in study.cases]
    measured = np.array([[cue(array) for cue in CUES.values()] for array in arrays])
    return areas_of_cues(measured, [key.arm(case.id) for case in study.cases])


def blur(array: NDArray, width: float) -> NDArray:
    smooth = gaussian_filter(array.astype(float), width / 2.3548, mode="nearest")
    low, high = np.percentile(smooth, [0.5, 99.5])
    return np.clip(np.rint((smooth - low) / (high - low) * 1000), 0, 1000)


if __name__ == "__main__":
    main()
