"""Whether the statistics of reader studies keep what they promise, in studies made by chance.

    python benchmarks/study_statistics.py

At least 2,000 studies a row with fixed seeds: how often 95 % intervals cover the true value, how
often "equivalent" is said at the margin, and the power that the planner promised beside the one
found. Takes half an hour on one core.
"""

from __future__ import annotations

import math

import numpy as np

from common import report
from study_intervals import intervals
from study_simulation import Scenario
from study_verdicts import verdicts


def main() -> None:
    rows = []
    for number, scenario in enumerate([*intervals(), *verdicts()]):
        rows.append(row(scenario, np.random.default_rng([11, number])))
        print(*rows[-1], sep=" | ", flush=True)
    report(
        "study_statistics",
        "Statistics of reader studies in simulated studies",
        ["what", "study", "studies", "found", "wished", "kept", "mean length"],
        rows,
    )


def row(scenario: Scenario, generator: np.random.Generator) -> list[str]:
    found = np.array([scenario.trial(generator) for _ in range(scenario.studies)])
    share, length = found.mean(0)
    wished = scenario.wished
    kept = "yes" if wished.low <= share <= wished.high else "no"
    return [
        scenario.what,
        scenario.study,
        f"{scenario.studies:,}",
        f"{100 * share:.1f} %",
        wished.text,
        kept if wished.is_promised else "not promised",
        "" if math.isnan(length) else f"{length:.3f}",
    ]


if __name__ == "__main__":
    main()
