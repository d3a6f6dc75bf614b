"""The views of a study: a layout of their own, set the same way for each case, and nothing told."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from slicer.util import VTKObservationMixin

PLANES = ("Axial", "Coronal", "Sagittal")
LAYOUT = 7200
"""The number of the layout for one volume; that for m of them is m - 1 higher."""
SETTLING_SECONDS = 1.0
"""Within which the views of a new layout get their sizes."""
VIEW_GROUP = 72
"""Of no other views: only these are linked with each other."""
COLORS = dict(zip(PLANES, ("#F34A33", "#6EB04B", "#EDD54C"), strict=True))
"""Those that Slicer has for these planes."""


class RatingViews(VTKObservationMixin):
    """Slice views of their own for one volume, or for several side by side.

    ``on_slice`` is called with a view's name and the number of the slice that it shows,
    ``on_window`` when the window of a volume has changed.
    """

    def __init__(self, on_slice: Callable[[str, int], None], on_window: Callable[[], None]) -> None:
        VTKObservationMixin.__init__(self)
        self._on_slice = on_slice
        self._on_window = on_window
        self._windows: dict[str, tuple[float, float]] = {}
        self._before: int | None = None
        self._count = 0
        self._sizes: list[tuple[int, ...]] = []
        self._settles_until = 0.0
        self._blind = Blind()

    @property
    def active(self) -> bool:
        """Whether the views have taken the place of the layout before."""
        return self._before is not None

    def show(self, nodes: Sequence[Any]) -> None:
        """Show volumes of one grid, each in its views, with the same slices as always."""
        self._take_the_place(len(nodes))
        with self._unheard():
            for name, plane, node in self._views(nodes):
                logic = _logic(name)
                composite = logic.GetSliceCompositeNode()
                composite.SetForegroundVolumeID(None)
                composite.SetLabelVolumeID(None)
                composite.SetBackgroundVolumeID(node.GetID())
                composite.SetLinkedControl(len(nodes) > 1)
                composite.SetHotLinkedControl(len(nodes) > 1)
                view = logic.GetSliceNode()
                view.SetOrientation(plane)
                view.SetSlabReconstructionEnabled(False)
        self._observe(nodes)
        self._pose()

    def settle(self) -> None:
        """Call it often: new views get their sizes only after they were made, and a first case must
        not be shown otherwise than those that follow."""
        if time.monotonic() < self._settles_until and self._sizes != self._view_sizes():
            self._pose()

    def _pose(self) -> None:
        """All slices to the middle, all of the volume in sight."""
        self._sizes = self._view_sizes()
        with self._unheard():
            for name, _plane in view_names(self._count):
                logic = _logic(name)
                logic.FitSliceToBackground()
                logic.SnapSliceOffsetToIJK()
        self._blind.clear_corners([name for name, _plane in view_names(self._count)])

    def _view_sizes(self) -> list[tuple[int, ...]]:
        names = view_names(self._count)
        return [tuple(_logic(name).GetSliceNode().GetDimensions()) for name, _plane in names]

    def look(self) -> None:
        """Tell the slices that are shown now."""
        for name, _plane in view_names(self._count):
            self._see(_logic(name).GetSliceNode())

    def blank(self) -> None:
        """Show nothing."""
        self.removeObservers()
        for name, _plane in view_names(self._count):
            logic = _logic(name)
            if logic is not None:
                logic.GetSliceCompositeNode().SetBackgroundVolumeID(None)

    def end(self) -> None:
        """Give the place back to the layout that was there, and what was hidden is shown again."""
        if self._before is None:
            return
        self.blank()
        before, self._before = self._before, None
        slicer.app.layoutManager().setLayout(before)
        self._blind.end()

    def _take_the_place(self, count: int) -> None:
        manager = slicer.app.layoutManager()
        if self._before is None:
            self._before = manager.layout
            self._blind.begin()
        self._count = count
        node = manager.layoutLogic().GetLayoutNode()
        if not node.IsLayoutDescription(LAYOUT + count - 1):
            node.AddLayoutDescription(LAYOUT + count - 1, layout_description(count))
        if manager.layout != LAYOUT + count - 1:
            manager.setLayout(LAYOUT + count - 1)
            self._settles_until = time.monotonic() + SETTLING_SECONDS

    def _views(self, nodes: Sequence[Any]) -> Iterator[tuple[str, str, Any]]:
        names = view_names(len(nodes))
        for number, (name, plane) in enumerate(names):
            yield name, plane, nodes[number // len(PLANES)]

    def _observe(self, nodes: Sequence[Any]) -> None:
        self.removeObservers()
        for name, _plane in view_names(self._count):
            view = _logic(name).GetSliceNode()
            self.addObserver(view, vtk.vtkCommand.ModifiedEvent, self._on_view)
        for node in nodes:
            display = node.GetDisplayNode()
            self._windows[display.GetID()] = _window(display)
            self.addObserver(display, vtk.vtkCommand.ModifiedEvent, self._on_display)

    @contextlib.contextmanager
    def _unheard(self) -> Iterator[None]:
        """What is set here was not done by the reader."""
        on_slice, self._on_slice = self._on_slice, lambda name, number: None
        try:
            yield
        finally:
            self._on_slice = on_slice

    def _on_view(self, view: Any, _event: Any) -> None:
        self._see(view)

    def _see(self, view: Any) -> None:
        spacing = _logic(view.GetLayoutName()).GetLowestVolumeSliceSpacing()[2]
        self._on_slice(view.GetLayoutName(), int(np.rint(view.GetSliceOffset() / spacing)))

    def _on_display(self, display: Any, _event: Any) -> None:
        window = _window(display)
        if window != self._windows.get(display.GetID()):
            self._windows[display.GetID()] = window
            self._on_window()


class Blind:
    """Turns off what Slicer writes about the volumes that its views show, and on again."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def begin(self) -> None:
        for is_on, turn in _corner_annotations():
            self._turn_off(is_on, turn)
        with contextlib.suppress(RuntimeError):  # Slicer without windows, or without a Data Probe.
            probe = slicer.util.findChild(slicer.util.mainWindow(), "DataProbeCollapsibleWidget")
            if not probe.isHidden():
                probe.setVisible(False)
                self._undo.append(lambda: probe.setVisible(True))

    def end(self) -> None:
        while self._undo:
            self._undo.pop()()

    @staticmethod
    def clear_corners(views: Sequence[str]) -> None:
        """Take away what was written into these views before it was turned off."""
        for name in views:
            widget = slicer.app.layoutManager().sliceWidget(name)
            if widget is not None:
                widget.sliceView().cornerAnnotation().ClearAllTexts()
                widget.sliceView().scheduleRender()

    def _turn_off(self, is_on: bool, turn: Callable[[bool], None]) -> None:
        if is_on:
            turn(False)
            self._undo.append(lambda: turn(True))


def _corner_annotations() -> Iterator[tuple[bool, Callable[[bool], None]]]:
    """What writes into the corners of slice views: whether it does, and how to turn it on or off.

    Up to Slicer 5.8 the Data Probe does, in newer ones a module of its own.
    """
    probe = getattr(slicer.modules, "DataProbeInstance", None)
    annotations = getattr(getattr(probe, "infoWidget", None), "sliceAnnotations", None)
    if annotations is not None:

        def turn(on: bool) -> None:
            annotations.sliceViewAnnotationsEnabled = on
            annotations.updateSliceViewFromGUI()

        yield bool(annotations.sliceViewAnnotationsEnabled), turn
    module = getattr(slicer.modules, "cornertext", None)
    if module is not None:
        logic = module.logic()
        yield bool(logic.GetSliceViewAnnotationsEnabled()), logic.SetSliceViewAnnotationsEnabled


def view_names(count: int) -> list[tuple[str, str]]:
    """The names of the views of so many volumes, those of a volume together, with their planes."""
    return [(f"Rating{plane}{n}", plane) for n in range(1, count + 1) for plane in PLANES]


def layout_description(count: int) -> str:
    """Slicer's XML of the layout: one large plane and two small, or a column for each volume."""
    names = iter(view_names(count))

    def view(number: int) -> str:
        name, plane = next(names)
        label = f"{number} {plane[0]}" if count > 1 else plane[0]
        return (
            f'<view class="vtkMRMLSliceNode" singletontag="{name}">'
            f'<property name="orientation" action="default">{plane}</property>'
            f'<property name="viewlabel" action="default">{label}</property>'
            f'<property name="viewcolor" action="default">{COLORS[plane]}</property>'
            f'<property name="viewgroup" action="default">{VIEW_GROUP}</property></view>'
        )

    def items(*contents: str) -> str:
        return "".join(f"<item>{content}</item>" for content in contents)

    if count == 1:
        axial, others = view(1), f'<layout type="vertical">{items(view(1), view(1))}</layout>'
        return f'<layout type="horizontal" split="true">{items(axial, others)}</layout>'
    columns = (
        f'<layout type="vertical">{items(*(view(number) for _plane in PLANES))}</layout>'
        for number in range(1, count + 1)
    )
    return f'<layout type="horizontal">{items(*columns)}</layout>'


def _logic(name: str) -> Any:
    return slicer.app.applicationLogic().GetSliceLogicByLayoutName(name)


def _window(display: Any) -> tuple[float, float]:
    return display.GetWindow(), display.GetLevel()
