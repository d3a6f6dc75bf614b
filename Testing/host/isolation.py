"""A pytest plugin: the tests of a file that asks for it run in a process of their own.

MRML and Qt are booted once per process and never quite shut down, and a crash in VTK would take
all other tests with it. A test file asks by the line ``pytest_plugins = ("host.isolation",)``; its
tests are then collected and reported as usual, but run together in one fresh pytest. Such a file
imports nothing of slicer or Qt at file scope, as it is also imported where tests are collected.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

NAME = "host.isolation"
REPORTS = "HOST_REPORTS"  # Set in the child: the file that its reports go to.
LIMIT = 600  # Seconds for the tests of one file; a hanging event loop must end as a failure.
# pytest's own exit codes for "all passed" and "some failed"; anything else is a crash.
FINISHED = (0, 1)


def wants_own_process(item: pytest.Item) -> bool:
    module = getattr(item, "module", None)
    return NAME in getattr(module, "pytest_plugins", ()) and REPORTS not in os.environ


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> bool | None:
    """Run the whole file at its first test, and hand out the reports test by test."""
    if not wants_own_process(item):
        return None
    finished: dict[Path, dict[str, list[Any]]] = item.config.stash.setdefault(_finished, {})
    if item.path not in finished:
        items = [other for other in item.session.items if other.path == item.path]
        finished[item.path] = run_in_child(item.config, items)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for report in finished[item.path][item.nodeid]:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


_finished: pytest.StashKey[dict[Path, dict[str, list[Any]]]] = pytest.StashKey()


def run_in_child(config: pytest.Config, items: list[pytest.Item]) -> dict[str, list[Any]]:
    """Run tests in a fresh process; a test without a full set of reports gets a failure."""
    ids = [item.nodeid for item in items]
    with tempfile.TemporaryDirectory() as folder:
        reports = Path(folder) / "reports"
        reports.touch()
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
        environment[REPORTS] = str(reports)
        command = [sys.executable, "-m", "pytest", "-p", "no:xdist", "-p", "no:cacheprovider"]
        try:
            done = subprocess.run(
                [*command, "--rootdir", str(config.rootpath), *ids],
                cwd=config.rootpath,
                env=environment,
                capture_output=True,
                text=True,
                timeout=LIMIT,
                check=False,
            )
            end, output = f"ended with exit code {done.returncode}", done.stdout + done.stderr
            crashed = done.returncode not in FINISHED
        except subprocess.TimeoutExpired as error:
            end, output = f"took more than {LIMIT} s", str(error.stdout or "")
            crashed = True
        found = read_reports(config, reports)
    result = {name: found.get(name, []) for name in ids}
    unfinished = [item for item in items if not is_complete(result[item.nodeid])]
    blamed = unfinished or (items[-1:] if crashed else [])
    for item in blamed:
        # A crash report ends with a line of hundreds of module names.
        lines = "\n".join(line[:300] for line in output.splitlines())
        message = f"the process of these tests {end}:\n{lines[-6000:]}"
        result[item.nodeid] = [failure(item, message)]
    return result


def is_complete(reports: list[Any]) -> bool:
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


def read_reports(config: pytest.Config, path: Path) -> dict[str, list[Any]]:
    reports: dict[str, list[Any]] = {}
    for line in path.read_text().splitlines():
        report = config.hook.pytest_report_from_serializable(config=config, data=json.loads(line))
        if isinstance(report.longrepr, list):  # JSON has no tuples; pytest wants one for a skip.
            report.longrepr = tuple(report.longrepr)
        reports.setdefault(report.nodeid, []).append(report)
    return reports


@pytest.hookimpl(wrapper=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> Iterator[None]:
    """In the child: write each report down at once, so that it outlives a crash."""
    if REPORTS in os.environ and _config:
        data = _config[0].hook.pytest_report_to_serializable(config=_config[0], report=report)
        with Path(os.environ[REPORTS]).open("a") as file:
            file.write(json.dumps(data) + "\n")
    return (yield)


_config: list[pytest.Config] = []


def pytest_configure(config: pytest.Config) -> None:
    _config[:] = [config]
