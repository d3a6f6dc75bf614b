"""The edges of the command's process: streams that cannot be written, no home, Ctrl-C at any time,
libraries that talk, names that no terminal can show, and what nobody foresaw."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli_runs import model, nifti, out, refused, synthesize
from conftest import make_bundle
from MedDiffusionLib.commands import cli, models, terminal
from MedDiffusionLib.compute.errors import UserError, unexpected

__all__ = ["model", "out"]

PATIENCE = 600.0


@pytest.fixture
def command(tmp_path: Path, out: Path, model: Path) -> list[str]:
    return volume_command(nifti(tmp_path / "labels.nii.gz"), out / "v.nii.gz", model)


def volume_command(source: Path, output: Path, model: Path) -> list[str]:
    """A command line for a shell, which makes a volume of a label map."""
    words = [sys.executable, "-m", "MedDiffusionLib", "synthesize", source, "-o", output,
             "--model", model]  # fmt: skip
    return [f"'{word}'" for word in words]


def shell(
    command: list[str], rest: str = "", **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{' '.join(command)} {rest}"], capture_output=True,
        text=True, check=False, env={**os.environ, **environment}, timeout=PATIENCE,
    )  # fmt: skip


@pytest.mark.process
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize(
    ("rest", "code", "said"),
    [
        (">&- 2>&-", 0, ""),
        (">/dev/full", 1, "stdout could not be written"),
        ("| true", 1, "stdout could not be written"),
    ],
)
def test_results_are_made_whatever_becomes_of_the_streams(
    command: list[str], out: Path, rest: str, code: int, said: str
) -> None:
    done = shell(command, rest)
    assert done.returncode == code
    assert sorted(p.name for p in out.iterdir()) == ["v.json", "v.nii.gz"]
    assert len(done.stderr.splitlines()) == bool(said)
    assert said in done.stderr


@pytest.fixture
def everyones() -> Iterator[Path]:
    """A folder that other users reach: to pytest's own each session closes the way anew."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)


@pytest.mark.process
def test_who_has_no_home_no_name_and_no_letters_gets_a_volume(everyones: Path) -> None:
    """A locale of ASCII alone and, where the tests run as root, a user whom nobody knows."""
    plain = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    who = ["env", "-u", "HOME", "-u", "MEDDIFFUSION_HOME"]
    unknown = [*who, "setpriv", "--reuid", "12345", "--clear-groups"]
    root = os.geteuid() == 0
    if root and not shell([*unknown, sys.executable, "-c", "'import MedDiffusionLib'"]).returncode:
        who, root = unknown, False
    source, model = nifti(everyones / "étiquettes 标签.nii.gz"), make_bundle(everyones / "tiny")
    command = [*who, *volume_command(source, everyones / "объём.nii.gz", model)]
    done = shell(command, **plain)
    assert (done.returncode, done.stderr) == (0, "")
    assert (everyones / "объём.nii.gz").exists()
    if root:  # Whom no permission stops.
        source.unlink()
    else:
        source.chmod(0)
    done = shell(command, "--overwrite", **plain)
    assert done.returncode == 1
    assert ("does not exist" if root else "Permission denied") in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.process
@pytest.mark.parametrize("moment", [0.05, 0.4])
def test_ctrl_c_while_libraries_are_loaded_is_one_sentence(
    tmp_path: Path, out: Path, model: Path, moment: float
) -> None:
    source = nifti(tmp_path / "labels.nii.gz")
    ready = tmp_path / "ready"
    # As the interpreter would be after its own start, in which nobody could help.
    start = (
        "import pathlib, runpy, sys; import MedDiffusionLib.commands.interrupts as i; "
        f"i.end_at_once(); pathlib.Path({str(ready)!r}).touch(); "
        "runpy.run_module('MedDiffusionLib', run_name='__main__', alter_sys=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", start, "synthesize", source, "-o", out / "v.nii.gz", "--model",
         model, "--samples", "1000"], stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not ready.exists():
        time.sleep(0.001)
    time.sleep(moment)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert errors == "meddiffusion: cancelled; no file was left half-written.\n"


@pytest.mark.process
def test_what_libraries_print_is_not_heard(tmp_path: Path) -> None:
    talk = (
        "import os, sys, warnings; from MedDiffusionLib.commands import terminal as t; "
        "t.claim_streams(); print('chatter'); os.write(1, b'chatter'); os.write(2, b'chatter'); "
        "warnings.warn('chatter'); sys.stderr.write('chatter'); t.tell('result'); t.say('sentence')"
    )
    for debug, most in (("", 1), ("1", 9)):
        done = subprocess.run(
            [sys.executable, "-c", talk], capture_output=True, text=True, check=True,
            env={**os.environ, "MEDDIFFUSION_DEBUG": debug},
        )  # fmt: skip
        assert ("chatter" in done.stdout + done.stderr) == bool(debug)
        assert "result\n" in done.stdout
        assert "meddiffusion: sentence\n" in done.stderr
        assert len(done.stderr.splitlines()) <= most


def test_a_line_is_one_line_and_holds_no_control_characters(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = "name\n\033]0;title\a\033[2J.nii.gz\r\x9b31m"
    terminal.tell(Path(hostile))
    terminal.say_error(UserError("cannot be read", path=hostile), {})
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    progress = terminal.ProgressLine(hostile)
    progress._show(hostile)
    captured = capsys.readouterr()
    assert captured.out.count("\n") == captured.err.count("\n") == 1
    shown = captured.out + captured.err.replace("\r\033[K", "")
    assert all(c.isprintable() or c == "\n" for c in shown)


def test_a_stream_that_fails_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        tries = 0

        def write(self, text: str) -> int:
            self.tries += 1
            raise OSError(28, "No space left on device")

    full = Full()
    monkeypatch.setattr(terminal, "_failed", set())
    monkeypatch.setattr(sys, "stdout", full)
    terminal.tell("a")
    terminal.tell("b")
    assert full.tries == 1
    assert not terminal.is_stdout_whole()
    monkeypatch.setattr(sys, "stderr", None)
    terminal.say("nobody hears this")
    terminal.ProgressLine().close()


def test_what_nobody_foresaw_is_one_sentence_that_asks_for_a_report(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(options: object) -> int:
        raise ZeroDivisionError("division\nby zero")

    monkeypatch.setattr(models, "models", broken)
    sentence = refused(capfd, cli.main(["models"]))
    assert "(ZeroDivisionError: division by zero): please report it" in sentence
    monkeypatch.setenv("MEDDIFFUSION_DEBUG", "1")
    assert cli.main(["models"]) == 1
    assert "in broken" in capfd.readouterr().err


def test_a_file_that_cannot_be_used_is_named() -> None:
    error = unexpected(PermissionError(13, "Permission denied", "a/b"))
    assert str(error).startswith("a/b cannot be used (Permission denied)")
    own = UserError("mine")
    assert unexpected(own) is own


@pytest.mark.parametrize(
    "more",
    [["--seed", "9" * 310], ["--seed", "1.5"], ["--guidance", "nan"], ["--guidance", "1e999"],
     ["--steps", "1e3"], ["--samples", "9" * 5000], ["--label", "\u00b2=anterior"],
     ["--label", "1="], ["--label", f"{'9' * 400}=anterior"]],
)  # fmt: skip
def test_numbers_that_are_none_are_one_short_line(
    tmp_path: Path, model: Path, capfd: pytest.CaptureFixture[str], more: list[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        synthesize(tmp_path / "l.nii", tmp_path / "v.nii", model, *more)
    assert ended.value.code == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert len(line) < 200


@pytest.mark.parametrize(
    "variables",
    [{"RANK": "x"}, {"WORLD_SIZE": "0"}, {"RANK": "2", "WORLD_SIZE": "2"}, {"LOCAL_RANK": "-1"}],
)
def test_what_torchrun_would_never_set_is_one_sentence(
    tmp_path: Path,
    out: Path,
    model: Path,
    variables: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    source = nifti(tmp_path / "labels.nii.gz")
    assert "not as torchrun sets them" in refused(capfd, synthesize(source, out / "v.nii", model))
