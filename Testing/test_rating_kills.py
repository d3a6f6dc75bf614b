"""A reader's session is killed (-9) while it runs: a sample of Testing/torture/rating_kills.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from host import missing

LACKING = missing("slicer_core", "PySide6")
pytestmark = [pytest.mark.process, pytest.mark.skipif(bool(LACKING), reason=LACKING)]


def test_no_confirmed_answer_is_lost_when_slicer_is_killed(tmp_path: Path) -> None:
    from torture.rating_kills import run

    done = run(tmp_path, kills=2, cases=12, seed=5)
    assert [problem for kill in done for problem in kill.problems] == []
    assert done[-1].where == "all was answered"
