"""Walks through all that a reader can open or see of an open study, and compares what it finds.

Facts are texts by the place where they stand. What must differ from case to case, the number of
the case, is masked; voxels are left out.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Facts = dict[str, str]
_VARIES = re.compile(r"0x[0-9a-f]+|(Time|MTime|Time Stamp): \d+")
"""Addresses, and how often VTK has changed anything so far: that goes up with every case."""
_OF_VOXELS = re.compile(r"(Scalar Range|ScalarRange|Range): .*|.*(Min|Max)imum ?Scalar.*")
_PROGRESS = ("progressLabel", "progressBar")


def walk(study_folder: Path, case_files: Mapping[str, Path]) -> Facts:
    """All facts now, while a case is shown. ``case_files``: its files, by their place in it."""
    parts = (_nodes(), _views(), _widgets(), _application(), _folder(study_folder),
             _files(case_files))  # fmt: skip
    return {place: text for part in parts for place, text in part}


def differences(one: Facts, other: Facts) -> list[str]:
    """The places at which two walks found different facts."""
    return sorted(
        f"{place}: {one.get(place)!r} / {other.get(place)!r}"
        for place in {*one, *other}
        if one.get(place) != other.get(place)
    )


def _nodes() -> Iterator[tuple[str, str]]:
    """Every node of the scene with its fields, attributes, references and storage."""
    import slicer

    scene = slicer.mrmlScene
    # First: it is made when it is first asked for.
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    yield "subject hierarchy", _fields(hierarchy)
    yield "scene", f"{scene.GetURL()} {scene.GetRootDirectory()} {scene.GetNumberOfNodes()}"
    for index in range(scene.GetNumberOfNodes()):
        node = scene.GetNthNode(index)
        place = f"node {index} {node.GetID()}"
        yield f"{place} name", f"{node.GetClassName()} {node.GetName()} {node.GetDescription()}"
        for name in node.GetAttributeNames():
            yield f"{place} attribute {name}", str(node.GetAttribute(name))
        yield f"{place} fields", _fields(node)
        if node.IsA("vtkMRMLStorableNode"):
            for n in range(node.GetNumberOfStorageNodes()):
                storage = node.GetNthStorageNode(n)
                yield f"{place} storage {n}", str(storage and storage.GetFileName())
        if node.IsA("vtkMRMLVolumeNode") and node.GetImageData() is not None:
            yield f"{place} image", _fields(node.GetImageData())
            scalars = node.GetImageData().GetPointData().GetScalars()
            yield f"{place} scalars", f"{scalars.GetName()} {scalars.GetClassName()}"


def _fields(thing: Any) -> str:
    lines = (_VARIES.sub("", line) for line in str(thing).splitlines())
    return "\n".join(line for line in lines if not _OF_VOXELS.match(line.strip()))


def _views() -> Iterator[tuple[str, str]]:
    """All texts in the views: corners, and actors."""
    import slicer

    manager = slicer.app.layoutManager()
    yield "layout", str(manager.layout)
    for name in manager.sliceViewNames():
        view = manager.sliceWidget(name).sliceView()
        corners = view.cornerAnnotation()
        yield f"view {name} corners", repr([corners.GetText(n) for n in range(8)])
        props = view.renderWindow().GetRenderers().GetFirstRenderer().GetViewProps()
        found = [props.GetItemAsObject(n) for n in range(props.GetNumberOfItems())]
        texts = [p.GetInput() for p in found if p.IsA("vtkTextActor") and p.GetVisibility()]
        yield f"view {name} actors", repr((len(found), texts))


def _widgets() -> Iterator[tuple[str, str]]:
    """The texts of all widgets, actions and shortcuts, whether they can be seen or not."""
    import slicer

    named = (
        "text", "toolTip", "statusTip", "whatsThis", "windowTitle", "accessibleName", "title",
        "accessibleDescription", "placeholderText", "plainText", "currentText", "windowFilePath",
        "value", "maximum", "objectName", "visible", "enabled", "checked", "styleSheet",
    )  # fmt: skip
    for root in sorted(slicer.app.topLevelWidgets(), key=lambda w: w.metaObject().className()):
        for number, widget in enumerate(_below(root)):
            meta = widget.metaObject()
            place = f"{root.objectName} {number} {meta.className()} {widget.objectName}"
            for name in named:
                if meta.indexOfProperty(name) >= 0:
                    yield f"{place} {name}", _masked(widget, name)
            yield f"{place} dynamic", repr(_dynamic(widget))


def _dynamic(widget: Any) -> dict[str, str]:
    """The dynamic properties; of those that Qt keeps for itself some have no text."""
    found = {}
    for name in (name.data().decode() for name in widget.dynamicPropertyNames()):
        with contextlib.suppress(RuntimeError):
            found[name] = _VARIES.sub("", str(widget.property(name)))
    return found


def _below(thing: Any) -> Iterator[Any]:
    """A widget, and all widgets, actions and shortcuts in it; not what Qt's style animates."""
    yield thing
    for child in thing.children():
        if any(child.inherits(kind) for kind in ("QWidget", "QAction", "QShortcut")):
            yield from _below(child)


def _masked(widget: Any, name: str) -> str:
    text = str(widget.property(name))
    return re.sub(r"\d+", "#", text) if widget.objectName in _PROGRESS else text


def _application() -> Iterator[tuple[str, str]]:
    import slicer

    settings = slicer.app.userSettings()
    for key in settings.allKeys():
        yield f"setting {key}", str(settings.value(key))
    yield "window title", str(slicer.util.mainWindow().windowTitle)
    temporary = sorted(p.name for p in Path(slicer.app.temporaryPath).rglob("*"))
    yield "temporary files", repr([name for name in temporary if not name.endswith(".ini")])


def _folder(study: Path) -> Iterator[tuple[str, str]]:
    """The names, sizes and dates of what the study's folder holds."""
    for path in sorted(study.rglob("*")):
        if path.suffix not in (".jsonl", ".last"):
            status = path.stat()
            facts = status.st_mode, status.st_size if path.is_file() else 0
            yield f"folder {path.relative_to(study)}", repr(facts)


def _files(files: Mapping[str, Path]) -> Iterator[tuple[str, str]]:
    """What can be known of the case's own files without looking at a voxel."""
    for place, path in files.items():
        status = path.stat()
        yield f"file {place} name", re.sub(r"\d", "#", path.name)
        yield f"file {place} facts", repr((status.st_mode, status.st_size, status.st_mtime_ns,
                                           status.st_uid))  # fmt: skip
        yield f"file {place} header", path.read_bytes().partition(b"\n\n")[0].decode("latin-1")
