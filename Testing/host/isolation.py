"""A pytest plugin: the tests of a file that asks for it run in a process of their own.

MRML and Qt are booted once per process and never quite shut down, and a crash in VTK would take
all other tests with it. A test file asks by the line ``pytest_plugins = ("host.isolation",)``; its
tests are then collected and reported as usual, but run together in one fresh pytest. Such a file
imports nothing of slicer or Qt at file scope, as it is also imported where tests are collected.
Booting takes longer than most tests: files that :func:`process_of` gives one name share a process.

A test that ends the process or hangs fails, and the other tests run in a new process.
Whatever goes wrong between the two processes is a failed test with a sentence, never the end of the
session.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

NAME = "host.isolation"
REPORTS = "HOST_REPORTS"  # Set in the child: the file that its reports go to.
LIMIT = "HOST_LIMIT"  # May be set: the seconds after which a child that reports nothing hangs.
USUAL_LIMIT = 600.0
PROCESSES = 4  # Tests that end so many are given up.
SHARED = {
    "test_module_annotation": "annotation",  # It leaves a layout of six views.
    "test_module_training": "training",  # Its panels know the module that trains.
    "test_module_rating": "rating",
    "test_rating_views": "rating",
    "test_module": "panel",
    "test_tutorial": "panel",
    "test_scene": "scene",
}
"""By the beginning of a file's name, the process that it shares with others."""
# pytest's own exit codes for "all passed" and "some failed"; anything else is a crash.
FINISHED = (0, 1)

Reports = dict[str, list[pytest.TestReport]]
"""By test, the reports of its setup, call and teardown."""


class Child(NamedTuple):
    """What came of a process: reports, the test begun last, and how it ended if not in order."""

    reports: Reports
    last: str
    trouble: str


# ---- in the process that collects


def process_of(file: str) -> str:
    """The name of the process that the tests of a file, given by its path, run in."""
    name = Path(file).name
    return next((SHARED[start] for start in SHARED if name.startswith(start)), file)


def wants_own_process(item: pytest.Item) -> bool:
    module = getattr(item, "module", None)
    return NAME in getattr(module, "pytest_plugins", ()) and REPORTS not in os.environ


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Run all tests of a process at the first one's turn, and hand out the reports test by test."""
    if not wants_own_process(item):
        return None
    finished = item.config.stash.setdefault(_finished, {})
    if item.nodeid not in finished:
        ours = process_of(str(item.path))
        items = [
            other for other in item.session.items
            if wants_own_process(other) and process_of(str(other.path)) == ours
        ]  # fmt: skip
        finished.update(run_in_children(item.config, items))
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in finished[item.nodeid]:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


_finished: pytest.StashKey[Reports] = pytest.StashKey()


def run_in_children(config: pytest.Config, items: list[pytest.Item]) -> Reports:
    """Run tests in a fresh process, and in another those that it did not come to.

    Every test has reports in the end: the one at which a process died or hung has a failure.
    """
    done: Reports = {}
    left = list(items)
    try:
        for _ in range(PROCESSES):
            child = run_in_child(config, left)
            done |= {name: found for name, found in child.reports.items() if is_complete(found)}
            unfinished = [item for item in left if item.nodeid not in done]
            if not unfinished and not child.trouble:
                return done
            # Where all are finished, the process crashed on its way out.
            begun = [item for item in unfinished if item.nodeid == child.last]
            blamed = (begun or unfinished or left[-1:])[0]
            ended = child.trouble or "ended in order but without this test's reports"
            done[blamed.nodeid] = [failure(blamed, f"the process of these tests {ended}")]
            left = [item for item in unfinished if item is not blamed]
            if not left:
                return done
        reason = f"not run: {PROCESSES} processes of these tests have died"
    except Exception:
        reason = f"these tests cannot run in a process of their own:\n{traceback.format_exc()}"
    return done | {item.nodeid: [failure(item, reason)] for item in left if item.nodeid not in done}


def run_in_child(config: pytest.Config, items: list[pytest.Item]) -> Child:
    """Run tests in one fresh process."""
    limit = float(os.environ.get(LIMIT, USUAL_LIMIT))
    with tempfile.TemporaryDirectory() as folder:
        reports, output = Path(folder) / "reports", Path(folder) / "output"
        reports.touch()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        environment[REPORTS] = str(reports)
        command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider"]
        # Not through a pipe: whoever else holds its other end would have to be waited for.
        with output.open("wb") as file:
            process = subprocess.Popen(
                [*command, "--rootdir", str(config.rootpath), *(item.nodeid for item in items)],
                cwd=config.rootpath, env=environment, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
            try:
                hung = not wait_while_it_reports(process, reports, limit)
            finally:
                end_with_all_it_started(process)
        found, last = read_reports(config, reports)
        # Never by the process's locale: GDCM sets that to C.
        said = output.read_bytes().decode("utf-8", "replace")
    if not hung and process.returncode in FINISHED:
        return Child(found, last, "")
    end = f"reported nothing for {limit:g} s" if hung else f"ended {how(process.returncode)}"
    # A crash report ends with a line of hundreds of module names.
    lines = "\n".join(line[:300] for line in said.splitlines())
    return Child(found, last, f"{end}:\n{lines[-6000:]}")


def wait_while_it_reports(process: subprocess.Popen[bytes], reports: Path, limit: float) -> bool:
    """Wait for a process's end; False where its reports have not grown for ``limit`` seconds."""
    size, grown = -1, time.monotonic()
    while process.poll() is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(limit / 10)
        if reports.stat().st_size != size:
            size, grown = reports.stat().st_size, time.monotonic()
        elif time.monotonic() - grown > limit and process.poll() is None:
            # It says where it hangs.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.send_signal(signal.SIGABRT)
                process.wait(10)
            return False
    return True


def end_with_all_it_started(process: subprocess.Popen[bytes]) -> None:
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()
    process.wait()


def how(code: int) -> str:
    """An exit code in words."""
    with contextlib.suppress(ValueError):
        return f"by {signal.Signals(-code).name}"
    return f"with exit code {code}"


def is_complete(reports: list[pytest.TestReport]) -> bool:
    return any(report.when == "teardown" for report in reports)


def failure(item: pytest.Item, message: str) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid=item.nodeid,
        location=item.location,
        keywords={},
        outcome="failed",
        longrepr=message,
        when="call",
    )


def read_reports(config: pytest.Config, path: Path) -> tuple[Reports, str]:
    """The reports that a child has written, and the test that it began last."""
    reports: Reports = {}
    last = ""
    for line in path.read_bytes().splitlines():
        try:
            data = json.loads(line.decode("utf-8"))
        except ValueError:  # The child ended in the middle of the line.
            continue
        if BEGUN in data:
            last = data[BEGUN]
            continue
        report = config.hook.pytest_report_from_serializable(config=config, data=data)
        if isinstance(report.longrepr, list):  # JSON has no tuples; pytest wants one for a skip.
            report.longrepr = tuple(report.longrepr)
        reports.setdefault(report.nodeid, []).append(report)
    return reports, last


# ---- in the child

BEGUN = "begun"


def pytest_runtest_logstart(nodeid: str) -> None:
    write_down(json.dumps({BEGUN: nodeid}))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> Iterator[None]:
    """Write each report down at once, so that it outlives a crash."""
    if REPORTS in os.environ:
        write_down(as_text(report))
    return (yield)


def write_down(line: str) -> None:
    if REPORTS in os.environ:
        with Path(os.environ[REPORTS]).open("ab") as file:
            file.write(line.encode("utf-8", "replace") + b"\n")


def as_text(report: pytest.TestReport) -> str:
    """A report as a line; where it holds what has no text, a failure that says so."""

    def text(some: pytest.TestReport) -> str:
        (config,) = _config
        data: Any = config.hook.pytest_report_to_serializable(config=config, report=some)
        return json.dumps(data, ensure_ascii=False)

    try:
        return text(report)
    except Exception as error:
        said = f"the report of this test cannot be handed on ({type(error).__name__}: {error})"
        return text(
            pytest.TestReport(report.nodeid, report.location, {}, "failed", said, report.when)
        )


_config: list[pytest.Config] = []


def pytest_configure(config: pytest.Config) -> None:
    _config[:] = [config]
