"""A test file that asks for it runs in a process of its own, and cannot take others with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAD = "import os\nimport signal\nimport time\npytest_plugins = ('host.isolation',)\n"
SESSIONS = {"one process": (), "xdist": ("-n", "2", "--dist", "loadfile")}


def run(tmp_path: Path, text: str, *options: str, **more: str) -> str:
    """The verbose output of a session with this file and another; ``more`` is its environment."""
    (tmp_path / "test_inner.py").write_text(HEAD + text, "utf-8")
    (tmp_path / "test_other.py").write_text("def test_other():\n    pass\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), **more}
    # Where it believes to be watched by a CI, pytest repeats what failed in its last lines, whole.
    for name in ("HOST_REPORTS", "CI", "BUILD_NUMBER"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *options]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8",
        errors="replace", check=False,
    )  # fmt: skip
    assert "INTERNALERROR" not in done.stdout, done.stdout
    return done.stdout


def test_tests_of_a_file_or_a_kind_share_one_process_which_is_not_the_runner(
    tmp_path: Path,
) -> None:
    text = (
        "import pytest\n"
        "def test_a():\n    os.environ['SEEN'] = '1'\n"
        f"def test_b():\n    assert os.environ['SEEN'] == '1' and os.getppid() != {os.getpid()}\n"
        "def test_c():\n    assert False, 'on purpose'\n"
        "@pytest.mark.skip(reason='no reason')\ndef test_d():\n    pass\n"
    )
    for name, line in {
        "a": "os.environ['SCENE'] = '1'",
        "b": "assert 'SCENE' in os.environ",
    }.items():
        (tmp_path / f"test_scene_{name}.py").write_text(f"{HEAD}def test_{name}():\n    {line}\n")
    output = run(tmp_path, text)
    assert "1 failed, 5 passed, 1 skipped" in output
    assert "on purpose" in output


BAD = """
def test_passes():
    pass
def test_fails_in_many_alphabets():
    print("printed ✓ é 標籤")
    raise ValueError("said ✗ ü 体积 \\udcff")
def test_is_killed_by_a_signal():
    os.kill(os.getpid(), signal.SIGSEGV)
def test_passes_after_the_signal():
    pass
def test_leaves():
    os._exit(0)
def test_passes_after_the_leaving():
    pass
def test_hangs_with_a_process_that_holds_the_output():
    import subprocess
    subprocess.Popen(["sleep", "600"])
    time.sleep(600)
def test_passes_after_the_hanging():
    pass
def test_has_a_report_that_has_no_text(record_property):
    record_property("what", object())
def test_passes_at_the_end():
    pass
"""


@pytest.mark.parametrize("session", SESSIONS)
def test_whatever_a_test_does_the_others_run_and_are_reported(tmp_path: Path, session: str) -> None:
    """Also where the locale knows ASCII alone, as after GDCM has read a file."""
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    output = run(tmp_path, BAD, *SESSIONS[session], HOST_LIMIT="3", **plain)
    passed = 1 + BAD.count("def test_passes")
    assert f"5 failed, {passed} passed, 1 error" in output
    for sentence in (
        "the process of these tests ended by SIGSEGV",
        "the process of these tests ended in order but without this test's reports",
        "the process of these tests reported nothing for 3 s",
        "the report of this test cannot be handed on (TypeError",
    ):
        assert sentence in output
    assert "in test_hangs_with_a_process_that_holds_the_output" in output, "where it hung"
    # The runner's terminal knows ASCII alone; nothing was lost on the way to it.
    assert "printed \\u2713 \\xe9 \\u6a19\\u7c64" in output


def test_a_file_whose_tests_keep_crashing_is_given_up(tmp_path: Path) -> None:
    text = "".join(f"def test_{n}():\n    os.abort()\n" for n in range(6))
    output = run(tmp_path, text)
    assert "6 failed, 1 passed" in output
    assert output.count("Fatal Python error: Aborted") == 4
    assert "not run: 4 processes of these tests have died" in output


def test_a_crash_at_the_end_is_not_overlooked(tmp_path: Path) -> None:
    text = "import atexit\ndef test_a():\n    atexit.register(os.abort)\n"
    assert "1 failed, 1 passed" in run(tmp_path, text)


def test_a_process_that_cannot_be_started_fails_its_tests_with_a_sentence(tmp_path: Path) -> None:
    output = run(tmp_path, "def test_a():\n    pass\ndef test_b():\n    pass\n", HOST_LIMIT="soon")
    assert "2 failed, 1 passed" in output
    assert "these tests cannot run in a process of their own" in output
