"""What an audit found stands on the model's card, for just the weights that it was about; and no
volume is called anonymous."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from MedDiffusionLib.bundles.auditing import write_audit
from MedDiffusionLib.bundles.bundle import read_bundle
from MedDiffusionLib.bundles.catalog import describe, resources_folder
from MedDiffusionLib.bundles.manifest import Audit, read_manifest
from MedDiffusionLib.bundles.sharing import export_bundle
from MedDiffusionLib.commands.cli import main
from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.compute.locks import folder_lock
from MedDiffusionLib.widget.presenters.card import full_card

ROOT = Path(__file__).parents[1]


def audit_of(bundle: Path, verdict: str = "passed") -> Audit:
    weights = read_manifest(bundle).weights
    assert weights is not None
    return Audit(verdict, "2026-11-25", weights.sha256, "b" * 64, "c" * 64)


def test_a_model_without_an_audit_is_called_not_audited(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(tiny_bundle)]) == 0
    assert re.search(r"Copies +not audited\n", capsys.readouterr().out)
    assert "not audited" in full_card(read_manifest(tiny_bundle))


@pytest.mark.parametrize("verdict", ["passed", "failed", "inconclusive"])
def test_the_card_says_verdict_date_and_hashes(tiny_bundle: Path, verdict: str) -> None:
    before = json.loads((tiny_bundle / "model.json").read_text("utf-8"))
    write_audit(tiny_bundle, audit_of(tiny_bundle, verdict))
    manifest = read_manifest(tiny_bundle)
    card = describe(tiny_bundle, manifest)
    assert f"audit {verdict} on 2026-11-25" in card
    assert "b" * 64 in card
    assert "c" * 64 in card
    assert f"audit {verdict} on 2026-11-25" in full_card(manifest)
    after = json.loads((tiny_bundle / "model.json").read_text("utf-8"))
    assert {**before, "audit": after["audit"]} == after
    read_bundle(tiny_bundle)


def test_a_model_that_is_listed_says_whether_it_was_audited(
    own_user_folder: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_audit(tiny_bundle, audit_of(tiny_bundle))
    shutil.copytree(tiny_bundle, own_user_folder / "models" / "mine")
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(x.startswith("mine") and x.endswith("(audit passed on 2026-11-25)") for x in lines)


def test_an_audit_of_other_weights_is_refused_and_does_not_count(tiny_bundle: Path) -> None:
    other = Audit("passed", "2026-11-25", "a" * 64, "b" * 64, "c" * 64)
    before = (tiny_bundle / "model.json").read_bytes()
    with pytest.raises(UserError, match="other weights"):
        write_audit(tiny_bundle, other)
    assert (tiny_bundle / "model.json").read_bytes() == before
    content = json.loads(before)
    content["audit"] = {**other.__dict__}
    (tiny_bundle / "model.json").write_text(json.dumps(content))
    assert "not audited" in describe(tiny_bundle, read_manifest(tiny_bundle))


def test_the_bundled_model_which_is_of_version_1_keeps_its_version_and_loads(
    tmp_path: Path,
) -> None:
    bundled = resources_folder() / "Models" / "hippocampus-mr"
    copy = shutil.copytree(bundled, tmp_path / "copy")
    write_audit(copy, audit_of(copy))
    assert read_manifest(copy).read_version == read_manifest(bundled).read_version
    assert read_manifest(copy).valid_audit == audit_of(copy)
    read_bundle(copy)


def test_an_audit_goes_with_a_model_that_is_exported(tmp_path: Path, tiny_bundle: Path) -> None:
    write_audit(tiny_bundle, audit_of(tiny_bundle))
    export_bundle(tiny_bundle, tmp_path / "tiny.zip")
    assert main(["import", str(tmp_path / "tiny.zip"), "--overwrite"]) == 0
    assert main(["info", "tiny"]) == 0
    assert "audit" in json.loads((tiny_bundle / "model.json").read_text("utf-8"))


def test_nothing_is_written_where_a_training_writes_the_folder(tiny_bundle: Path) -> None:
    before = (tiny_bundle / "model.json").read_bytes()
    with folder_lock(tiny_bundle), pytest.raises(UserError, match="being written by another run"):
        write_audit(tiny_bundle, audit_of(tiny_bundle))
    assert (tiny_bundle / "model.json").read_bytes() == before


@pytest.mark.parametrize(
    "wrong",
    [{"verdict": "certainly"}, {"date": "yesterday"}, {"weights_sha256": "1"}, {"more": 1}],
)
def test_an_audit_that_is_none_makes_the_manifest_a_damaged_one(
    tiny_bundle: Path, wrong: dict[str, object]
) -> None:
    write_audit(tiny_bundle, audit_of(tiny_bundle))
    path = tiny_bundle / "model.json"
    content = json.loads(path.read_text("utf-8"))
    content["audit"] |= wrong
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"damaged.*audit"):
        read_manifest(tiny_bundle)


def test_no_volume_is_called_anonymous() -> None:
    texts = [ROOT / "README.md", *(ROOT / "Resources").rglob("*.json")]
    for suffix in ("py", "xml", "ui"):
        texts += (ROOT / "MedDiffusion").rglob(f"*.{suffix}")
    said = [
        sentence
        for path in texts
        for sentence in re.split(r"(?<=[.:;!?])\s", path.read_text("utf-8"))
        if re.search("anonym|de-?identified", sentence, re.IGNORECASE)
    ]
    assert said != []  # The README speaks of it.
    assert [
        s for s in said if not re.search(r"\b(no|not|never|nobody|neither)\b", s, re.IGNORECASE)
    ] == []
