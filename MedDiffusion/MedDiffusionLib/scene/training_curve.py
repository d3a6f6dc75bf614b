"""The loss of a training as a plot: a table, its series and their chart, of this session only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import slicer

_COLORS = ((0.2, 0.45, 0.8), (0.85, 0.4, 0.1))
_FONT_SIZE = 16
_LINE_WIDTH = 2


class TrainingCurve:
    """One chart, with a line a name; the nodes are made when first needed, and made anew where the
    scene was emptied around them."""

    def __init__(self) -> None:
        self._chart: Any = None
        self._tables: dict[str, Any] = {}
        self._series: dict[str, Any] = {}
        self._layout: int | None = None

    @property
    def nodes(self) -> list[Any]:
        """What is in the scene."""
        nodes = [self._chart, *self._series.values(), *self._tables.values()]
        return [node for node in nodes if node is not None and node.GetScene() is not None]

    def update(
        self,
        title: str,
        axes: tuple[str, str],
        curves: Mapping[str, Sequence[tuple[float, float]]],
    ) -> None:
        """Draw these curves, each as points (x, y); ``axes`` are the titles of x and y."""
        if self._chart is None or self._chart.GetScene() is None:
            self._make_chart()
        self._chart.SetTitle(title)
        self._chart.SetXAxisTitle(axes[0])
        self._chart.SetYAxisTitle(axes[1])
        for number, (name, points) in enumerate(curves.items()):
            if points and name not in self._tables:
                self._add_curve(number, name)
            if name in self._tables:
                columns = np.array(points, float).reshape(-1, 2).T
                slicer.util.updateTableFromArray(self._tables[name], list(columns), ["x", "y"])

    def show(self) -> None:
        """Show the chart, in a layout that has a place for it."""
        if self._chart is None or self._chart.GetScene() is None:
            return
        before = slicer.app.layoutManager().layout
        slicer.modules.plots.logic().ShowChartInLayout(self._chart)
        if self._layout is None and slicer.app.layoutManager().layout != before:
            self._layout = before

    def remove(self) -> None:
        """Take the nodes out of the scene, and bring back the layout that was there before."""
        for node in self.nodes:
            slicer.mrmlScene.RemoveNode(node)
        if self._layout is not None:
            slicer.app.layoutManager().setLayout(self._layout)
        self._chart, self._layout = None, None
        self._tables, self._series = {}, {}

    def _make_chart(self) -> None:
        self._tables, self._series = {}, {}
        self._chart = _add("vtkMRMLPlotChartNode", "MedDiffusion loss")
        self._chart.SetAxisLabelFontSize(_FONT_SIZE)
        self._chart.SetAxisTitleFontSize(_FONT_SIZE)
        self._chart.SetTitleFontSize(_FONT_SIZE)
        self._chart.SetLegendFontSize(_FONT_SIZE)
        self._chart.SetLegendVisibility(True)

    def _add_curve(self, number: int, name: str) -> None:
        table = _add("vtkMRMLTableNode", f"MedDiffusion loss {name}")
        series = _add("vtkMRMLPlotSeriesNode", name)
        slicer.util.updateTableFromArray(table, [np.zeros(0), np.zeros(0)], ["x", "y"])
        series.SetAndObserveTableNodeID(table.GetID())
        series.SetXColumnName("x")
        series.SetYColumnName("y")
        series.SetPlotType(series.PlotTypeScatter)
        series.SetMarkerStyle(series.MarkerStyleCircle)
        series.SetLineWidth(_LINE_WIDTH)
        series.SetColor(*_COLORS[number % len(_COLORS)])
        self._tables[name], self._series[name] = table, series
        self._chart.AddAndObservePlotSeriesNodeID(series.GetID())


def _add(class_name: str, name: str) -> Any:
    node = slicer.mrmlScene.AddNewNodeByClass(class_name, name)
    node.SetSaveWithScene(False)
    return node
