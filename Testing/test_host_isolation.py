"""A test file that asks for it runs in a process of its own, and cannot take others with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HEAD = 'import os\nimport pytest\npytest_plugins = ("host.isolation",)\n'


def run(tmp_path: Path, text: str, *options: str) -> str:
    (tmp_path / "test_inner.py").write_text(HEAD + text)
    (tmp_path / "test_other.py").write_text("def test_other():\n    pass\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    environment.pop("HOST_REPORTS", None)
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *options]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout


def test_tests_share_one_process_which_is_not_the_runner(tmp_path: Path) -> None:
    text = (
        "def test_a():\n    os.environ['SEEN'] = '1'\n"
        f"def test_b():\n    assert os.environ['SEEN'] == '1' and os.getppid() != {os.getpid()}\n"
        "def test_c():\n    assert False, 'on purpose'\n"
        "@pytest.mark.skip(reason='no reason')\ndef test_d():\n    pass\n"
    )
    output = run(tmp_path, text)
    assert "1 failed, 3 passed, 1 skipped" in output
    assert "on purpose" in output


def test_a_crash_fails_the_rest_of_its_file_and_nothing_else(tmp_path: Path) -> None:
    text = "def test_a():\n    pass\ndef test_b():\n    os.abort()\ndef test_c():\n    pass\n"
    output = run(tmp_path, text, "-n", "2", "--dist", "loadfile")
    assert "2 failed, 2 passed" in output
    assert "Fatal Python error: Aborted" in output


def test_a_crash_at_the_end_is_not_overlooked(tmp_path: Path) -> None:
    text = "import atexit\ndef test_a():\n    atexit.register(os.abort)\n"
    assert "1 failed, 1 passed" in run(tmp_path, text)
