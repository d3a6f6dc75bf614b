"""The worker process and its client: jobs, previews, cancelling, and every way it can go wrong."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_factory import AFFINES, two_boxes
from MedDiffusionLib import load
from MedDiffusionLib.diffusion.representations import Haar
from MedDiffusionLib.synthesis.synthesizer import Synthesizer
from MedDiffusionLib.volumes.volume import Kind, Volume
from MedDiffusionLib.widget.wording import sentence
from MedDiffusionLib.worker.client import Event, Job, WorkerClient
from MedDiffusionLib.worker.jobs import Worker
from MedDiffusionLib.worker.protocol import put_volume, take_error, take_volume

PATIENCE = 120.0
Start = Callable[..., WorkerClient]


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerClient]:
    """The client of a true worker, which the tests of this file share."""
    folder = tmp_path_factory.mktemp("temporary")
    client = WorkerClient([sys.executable], folder)
    yield client
    client.close()
    assert list(folder.iterdir()) == []


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts clients of workers that are only scripts; their files lie in ``temporary``."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    clients = []

    def make(script: str) -> WorkerClient:
        fake = tmp_path / "fake.py"
        fake.write_text(script)
        clients.append(WorkerClient([sys.executable, str(fake)], folder))
        return clients[-1]

    yield make
    for client in clients:
        client.close()
    assert list(folder.iterdir()) == []


def submit(
    client: WorkerClient, bundle: Path, events: list[Event], labels: Volume | None = None,
    overrides: dict[str, str] | None = None, **settings: Any,
) -> Job:  # fmt: skip
    def request(folder: Path) -> Event:
        volume = put_volume(folder / "labels.npy", two_boxes() if labels is None else labels)
        return {
            "do": "synthesize", "model": str(bundle), "device": "cpu", "labels": volume,
            "label_map": "drawn", "overrides": overrides or {}, "settings": settings,
        }  # fmt: skip

    return client.submit(request, events.append)


def wait(client: WorkerClient, until: Callable[[], bool], seen: object = "nothing noted") -> None:
    give_up = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < give_up, f"not so after {PATIENCE:.0f} s, but: {seen}"
        client.poll()
        time.sleep(0.005)


def outcome(client: WorkerClient, job: Job, events: list[Event]) -> Event:
    wait(client, lambda: job.ended, events)
    return events[-1]


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def test_a_job_makes_the_volumes_that_the_engine_makes(
    warm: WorkerClient, tiny_bundle: Path
) -> None:
    arrays: list[np.ndarray] = []
    events: list[Event] = []

    def take(event: Event) -> None:
        events.append(event)
        if event["event"] == "sample":
            arrays.append(take_volume(event["volumes"][0]).array)

    labels = two_boxes(affine=AFFINES["oblique"])
    job = submit(warm, tiny_bundle, events, labels, samples=2, seed=5)
    job.on_event = take
    assert outcome(warm, job, events)["event"] == "finished"
    expected = [v.array for v in load(tiny_bundle, "cpu").synthesize(labels, samples=2, seed=5)]
    # bf16 may be what is faster here; the fields of two samples differ by far more.
    for found, wanted in zip(arrays, expected, strict=True):
        assert found.shape == wanted.shape
        assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.99
    made = ["step", "step", "sample"] * 2
    assert [e["event"] for e in events] == ["started", *made, "finished"]
    assert [channel["name"] for channel in events[0]["channels"]] == ["T1w"]
    facts = events[3]["provenance"][0]
    assert (facts["model"], facts["seed"], facts["label_map"]) == ("tiny", 5, "drawn")


def test_every_step_brings_the_estimate_on_the_models_own_grid(
    warm: WorkerClient, tiny_bundle: Path
) -> None:
    volumes: list[Volume] = []
    events: list[Event] = []

    def take(event: Event) -> None:
        events.append(event)
        if event["event"] == "step":
            volumes.append(take_volume(event["volumes"][0]))

    job = submit(warm, tiny_bundle, events, steps=3)
    job.on_event = take
    outcome(warm, job, events)
    assert [(e["step"], e["steps"]) for e in events[1:4]] == [(1, 3), (2, 3), (3, 3)]
    assert all(v.grid.equals(volumes[0].grid) for v in volumes)
    np.testing.assert_allclose(volumes[0].grid.spacing, 1)
    assert not (volumes[0].array == volumes[2].array).all()


def test_a_job_without_a_label_map_generates_volumes(warm: WorkerClient, tiny_bundle: Path) -> None:
    arrays: list[np.ndarray] = []
    events: list[Event] = []

    def take(event: Event) -> None:
        events.append(event)
        if event["event"] == "sample":
            arrays.append(take_volume(event["volumes"][0]).array)

    def request(folder: Path) -> Event:
        settings = {"seed": 5}
        model = str(tiny_bundle)
        return {"do": "generate", "model": model, "device": "cpu", "settings": settings}

    job = warm.submit(request, take)
    assert outcome(warm, job, events)["event"] == "finished"
    (expected,) = load(tiny_bundle, "cpu").generate(seed=5)
    assert np.corrcoef(arrays[0].ravel(), expected.array.ravel())[0, 1] > 0.99
    assert [e["event"] for e in events] == ["started", "step", "step", "sample", "finished"]
    assert events[3]["provenance"][0]["label_map_sha256"] == ""


def test_where_decoding_takes_long_some_steps_are_shown(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[Event] = []
    monkeypatch.setattr(Haar, "decodes_slowly", True)
    Worker(events.append).handle(
        {
            "do": "generate",
            "job": 1,
            "model": str(tiny_bundle),
            "device": "cpu",
            "settings": {"steps": 13},
            "folder": str(tmp_path),
        }
    )
    shown = [event["step"] for event in events if event["event"] == "step" and event["volumes"]]
    assert shown == [3, 6, 9, 12]
    assert [event["step"] for event in events if event["event"] == "step"] == [*range(1, 14)]


def test_jobs_wait_for_each_other_in_one_process(warm: WorkerClient, tiny_bundle: Path) -> None:
    order: list[str] = []

    def note(name: str) -> Callable[[Event], None]:
        return lambda event: order.append(f"{name} {event['event']}")

    for name in ("first", "second"):
        submit(warm, tiny_bundle, []).on_event = note(name)
    wait(warm, lambda: "first finished" in order, order)
    pid = warm.process_id
    wait(warm, lambda: not warm.busy, order)
    assert order.index("first finished") < order.index("second step")
    assert order[-1] == "second finished"
    assert warm.process_id == pid


def test_a_model_is_loaded_once_and_anew_where_it_has_changed(
    warm: WorkerClient, tiny_bundle: Path
) -> None:
    def job() -> Event:
        events: list[Event] = []
        return outcome(warm, submit(warm, tiny_bundle, events), events)

    assert job()["event"] == "finished"
    (tiny_bundle / "weights.safetensors").write_bytes(b"Whoever reads this will complain.")
    assert job()["event"] == "finished"
    manifest = json.loads((tiny_bundle / "model.json").read_text())
    manifest["weights"]["sha256"] = "0" * 64
    (tiny_bundle / "model.json").write_text(json.dumps(manifest))
    assert "too small for what model.json says" in job()["problem"]


@pytest.mark.parametrize(
    "line",
    [b"[" * 100_000, b'{"do": "cancel"}', b'{"do": "cancel", "job": []}', b'{"do": "x", "job": 1}',
     b'{"do": "labelmap", "job": 1e999}', b"\xff", b"null", b'{"do": 3, "job": 3}'],
)  # fmt: skip
def test_a_line_that_means_nothing_does_not_make_the_worker_deaf(
    warm: WorkerClient, tiny_bundle: Path, line: bytes
) -> None:
    events: list[Event] = []
    job = submit(warm, tiny_bundle, events, steps=1000)
    wait(warm, lambda: bool(events))
    assert warm._process and warm._process.stdin
    warm._process.stdin.write(line + b"\n")
    warm._process.stdin.flush()
    warm.cancel(job)
    # The worker still hears: it stops between two steps, and the process stays.
    pid = warm.process_id
    assert outcome(warm, job, events)["event"] == "cancelled"
    assert warm.process_id == pid


def test_a_random_label_map_is_drawn_and_varied_by_the_worker(warm: WorkerClient) -> None:
    drawn: list[Volume] = []

    def take(event: Event) -> None:
        if event["event"] == "labelmap":
            drawn.append(take_volume(event["volume"]))

    request = {"do": "labelmap", "model": "hippocampus-mr", "seed": 2}
    warm.submit(lambda folder: request, take)
    wait(warm, lambda: not warm.busy)
    assert set(np.unique(drawn[0].array)) == {0, 1, 2}
    assert [s.name for s in drawn[0].segments] == ["anterior", "posterior"]

    def vary(folder: Path) -> Event:
        # With values of its own, which the request says what they are.
        foreign = Volume((10 * drawn[0].array).astype(np.uint8), drawn[0].affine, Kind.LABEL)
        return {"do": "vary", "model": "hippocampus-mr", "strength": 0.5, "seed": 1,
                "labels": put_volume(folder / "labels.npy", foreign),
                "overrides": {"10": "anterior", "20": "posterior"}}  # fmt: skip

    warm.submit(vary, take)
    wait(warm, lambda: not warm.busy)
    assert set(np.unique(drawn[1].array)) == {0, 1, 2}
    assert (drawn[1].affine == drawn[0].affine).all()
    assert (drawn[1].array != drawn[0].array).any()


def test_a_running_job_is_cancelled_between_two_steps_and_the_process_stays_warm(
    warm: WorkerClient, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # However long a step takes here.
    monkeypatch.setattr("MedDiffusionLib.worker.client.CANCEL_SECONDS", PATIENCE)
    events: list[Event] = []
    job = submit(warm, tiny_bundle, events, samples=20, steps=1000)
    wait(warm, lambda: bool(events))
    pid = warm.process_id
    warm.cancel(job)
    assert outcome(warm, job, events)["event"] == "cancelled"
    assert warm.process_id == pid
    after: list[Event] = []
    assert outcome(warm, submit(warm, tiny_bundle, after), after)["event"] == "finished"


def test_a_waiting_job_is_cancelled_at_once(warm: WorkerClient, tiny_bundle: Path) -> None:
    running, waiting = list[Event](), list[Event]()
    first = submit(warm, tiny_bundle, running)
    warm.cancel(submit(warm, tiny_bundle, waiting))
    assert waiting == [{"event": "cancelled"}]
    assert outcome(warm, first, running)["event"] == "finished"


def test_a_worker_that_does_not_heed_cancel_is_ended_with_its_children(
    start: Start, tiny_bundle: Path, tmp_path: Path
) -> None:
    client, events = start(_DEAF_WITH_CHILD.format(pid=tmp_path / "pid")), list[Event]()
    job = submit(client, tiny_bundle, events)
    wait(client, (tmp_path / "pid").exists)
    child = int((tmp_path / "pid").read_text())
    client.cancel(job)
    assert outcome(client, job, events)["event"] == "cancelled"
    assert client.process_id is None
    wait(client, lambda: is_gone(child))


def test_a_killed_worker_fails_its_job_and_the_next_job_starts_a_new_one(
    warm: WorkerClient, tiny_bundle: Path
) -> None:
    events: list[Event] = []
    job = submit(warm, tiny_bundle, events, steps=1000)
    wait(warm, lambda: bool(events))
    pid = warm.process_id
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert "lack of memory" in outcome(warm, job, events)["problem"]
    after: list[Event] = []
    assert outcome(warm, submit(warm, tiny_bundle, after), after)["event"] == "finished"
    assert warm.process_id != pid


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("raise SystemExit('no such module')", "ended unexpectedly (no such module)"),
        ("print('hello', flush=True); input(); input()", "not understood ('hello')"),
        ("print('[1, 2]', flush=True); input(); input()", "not understood"),
        ("print('{\"event\": \"ready\", \"protocol\": 99}', flush=True); input(); input()",
         "restart Slicer"),
    ],
)  # fmt: skip
def test_a_worker_that_does_not_speak_as_it_should_fails_the_job_with_a_sentence(
    start: Start, tiny_bundle: Path, script: str, words: str
) -> None:
    client, events = start(script), list[Event]()
    failed = outcome(client, submit(client, tiny_bundle, events), events)
    assert words in take_error(failed).sentence()
    assert client.process_id is None


def test_an_interpreter_that_is_not_there_fails_the_job_with_a_sentence(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    events: list[Event] = []
    client = WorkerClient([str(tmp_path / "nothing")], tmp_path)
    submit(client, tiny_bundle, events)
    assert "does not start" in events[-1]["problem"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("ImportError('No module named torch', name='torch')", "No module named torch"),
        ("OSError('[WinError 126] c10.dll')", "c10.dll"),
        ("OSError()", "OSError"),
    ],
)
def test_torch_that_is_missing_or_broken_is_said_to_be_reinstalled(
    tmp_path: Path, tiny_bundle: Path, libraries: Path, fault: str, said: str
) -> None:
    (libraries / "torch.py").write_text(f"raise {fault}")
    client, events = WorkerClient([sys.executable], tmp_path), list[Event]()
    error = take_error(outcome(client, submit(client, tiny_bundle, events), events))
    assert error.sentence().startswith("PyTorch, or another package that synthesis needs, cannot")
    assert said in error.detail
    assert "Reinstall PyTorch… under Advanced" in sentence(error)
    client.close()


def test_an_idle_worker_is_sent_to_rest_and_a_busy_one_is_not(
    warm: WorkerClient, tiny_bundle: Path
) -> None:
    events: list[Event] = []
    job = submit(warm, tiny_bundle, events)
    warm.rest()
    assert outcome(warm, job, events)["event"] == "finished"
    warm.rest()
    assert warm.process_id is None


def test_a_model_that_is_deleted_meanwhile_fails_the_job_and_the_worker_lives_on(
    warm: WorkerClient, tiny_bundle: Path, tmp_path: Path
) -> None:
    events: list[Event] = []
    outcome(warm, submit(warm, tiny_bundle, events), events)
    pid = warm.process_id
    moved = tmp_path / "moved"
    shutil.move(tiny_bundle, moved)
    assert "no model" in outcome(warm, submit(warm, tiny_bundle, events), events)["problem"]
    assert outcome(warm, submit(warm, moved, events), events)["event"] == "finished"
    assert warm.process_id == pid


def test_a_label_map_that_does_not_fit_fails_with_the_engines_sentence(
    warm: WorkerClient, tiny_bundle: Path
) -> None:
    events: list[Event] = []
    job = submit(warm, tiny_bundle, events, overrides={"1": "liver"})
    assert "The model has no label liver" in outcome(warm, job, events)["problem"]


def test_running_out_of_memory_becomes_a_sentence(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(self: Worker, model: str, device: str) -> Synthesizer:
        raise MemoryError

    monkeypatch.setattr(Worker, "_synthesizer", no_memory)
    events: list[Event] = []
    request = {"do": "synthesize", "job": 1, "model": "x", "device": "cpu", "folder": str(tmp_path)}
    Worker(events.append).handle(request)
    assert events[-1]["event"] == "failed"
    assert events[-1]["code"] == "out-of-memory"


@pytest.fixture
def libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose Python files come before all others in new processes."""
    folder = tmp_path / "libraries"
    folder.mkdir()
    library = Path(__file__).parents[1] / "MedDiffusion"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(library)]))
    return folder


def test_what_libraries_print_does_not_come_between_the_events(libraries: Path) -> None:
    (libraries / "sitecustomize.py").write_text(_CHATTER)
    done = subprocess.run(
        [sys.executable, "-m", "MedDiffusionLib.worker"], input=b"", capture_output=True, check=True
    )
    assert b"chatter" in done.stderr
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["ready"]


def test_an_idle_worker_goes_to_rest_by_itself() -> None:
    script = "import sys, MedDiffusionLib.worker.server as s; sys.exit(s.main(idle_seconds=0.2))"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.wait(PATIENCE) == 0


def test_a_worker_that_rests_just_when_a_job_comes_is_started_again(
    start: Start, tiny_bundle: Path, tmp_path: Path
) -> None:
    client, events = start(_RESTS_ONCE.format(mark=tmp_path / "mark")), list[Event]()
    assert outcome(client, submit(client, tiny_bundle, events), events)["event"] == "finished"


def test_the_end_of_the_front_end_ends_a_busy_worker(tiny_bundle: Path, tmp_path: Path) -> None:
    labels = put_volume(tmp_path / "labels.npy", two_boxes())
    request = {
        "do": "synthesize", "job": 1, "model": str(tiny_bundle), "device": "cpu", "overrides": {},
        "labels": labels, "label_map": "x", "folder": str(tmp_path),
        "settings": {"samples": 1000, "steps": 1000, "accept_costs": True},
    }  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "MedDiffusionLib.worker"], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps(request).encode() + b"\n")
        process.stdin.flush()
        while json.loads(process.stdout.readline())["event"] != "step":
            pass
        process.stdin.close()
        assert process.wait(PATIENCE) == 0


def test_closing_the_client_leaves_no_process_and_no_file(
    start: Start, tiny_bundle: Path, tmp_path: Path
) -> None:
    client, events = start(_DEAF_WITH_CHILD.format(pid=tmp_path / "pid")), list[Event]()
    submit(client, tiny_bundle, events, steps=1000)
    wait(client, (tmp_path / "pid").exists)
    pid, child = client.process_id, int((tmp_path / "pid").read_text())
    assert pid is not None
    client.close()
    assert is_gone(pid)
    wait(client, lambda: is_gone(child))
    assert events[-1] == {"event": "cancelled"}
    assert list((tmp_path / "temporary").iterdir()) == []


_CHATTER = """
import builtins
real = builtins.__import__
def noisy(name, *arguments, **options):
    if name == "torch":
        print("chatter", flush=True)
    return real(name, *arguments, **options)
builtins.__import__ = noisy
"""
_DEAF_WITH_CHILD = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print('{{"event": "ready", "protocol": 2}}', flush=True)
pathlib.Path(r"{pid}").write_text(str(child.pid))
time.sleep(600)
"""

_RESTS_ONCE = """
import json, pathlib, sys
print('{{"event": "ready", "protocol": 2}}', flush=True)
job = json.loads(sys.stdin.readline())["job"]
mark = pathlib.Path(r"{mark}")
if mark.exists():
    print(json.dumps({{"event": "finished", "job": job}}), flush=True)
    sys.stdin.readline()
mark.touch()
"""
