"""The layout manager and the view widgets: real slice and view logics, no windows.

Pictures of the views come from ``host.views``, which draws any of these logics off screen.
"""

from __future__ import annotations

from typing import Any

import slicer
import vtk

from host.qmrml import qMRMLWidget
from host.standin import StandIn, declare, emit

VIEW_SIZE = (400, 300)

_LayoutFactory: Any
(_LayoutFactory,) = declare("ctkLayoutFactory")


_SliceViewBase: Any
_ThreeDViewBase: Any
_SliceViewBase, _ThreeDViewBase = declare("ctkVTKSliceView", "ctkVTKRenderView")


class qMRMLSliceView(_SliceViewBase, metaclass=StandIn):
    """What a slice is drawn in."""

    def renderWindow(self) -> Any:
        return window_of(self)

    def cornerAnnotation(self) -> Any:
        return corners_of(self)

    def scheduleRender(self) -> None:
        """Pictures are drawn when ``host.views`` takes them."""


class qMRMLThreeDView(_ThreeDViewBase, metaclass=StandIn):
    """What a 3D view is drawn in."""

    def renderWindow(self) -> Any:
        return window_of(self)

    def scheduleRender(self) -> None:
        """Pictures are drawn when ``host.views`` takes them."""


def window_of(view: Any) -> Any:
    """The render window of a view, with its renderer; ``host.views`` draws in it."""
    if "_window" not in view.__dict__:
        window = vtk.vtkRenderWindow()
        window.SetOffScreenRendering(1)
        window.SetMultiSamples(0)
        window.AddRenderer(vtk.vtkRenderer())
        view.__dict__["_window"] = window
    return view.__dict__["_window"]


def corners_of(view: Any) -> Any:
    """What is written into the corners of a view."""
    if "_corners" not in view.__dict__:
        view.__dict__["_corners"] = vtk.vtkCornerAnnotation()
        window_of(view).GetRenderers().GetFirstRenderer().AddViewProp(view.__dict__["_corners"])
    return view.__dict__["_corners"]


class qMRMLAbstractViewWidget(qMRMLWidget, metaclass=StandIn):
    """A view: what it shows is in its node and logic."""

    def mrmlAbstractViewNode(self) -> Any:
        return self.__dict__["_node"]

    def logic(self) -> Any:
        return self.__dict__["_logic"]


class qMRMLSliceWidget(qMRMLAbstractViewWidget, metaclass=StandIn):
    """A slice view with its controller."""

    def _setup(self) -> None:
        self.__dict__["_view"] = qMRMLSliceView()

    def sliceView(self) -> Any:
        return self.__dict__["_view"]

    def sliceLogic(self) -> Any:
        return self.logic()

    def mrmlSliceNode(self) -> Any:
        return self.logic().GetSliceNode()


class qMRMLThreeDWidget(qMRMLAbstractViewWidget, metaclass=StandIn):
    """A 3D view."""

    def _setup(self) -> None:
        self.__dict__["_view"] = qMRMLThreeDView()

    def threeDView(self) -> Any:
        return self.__dict__["_view"]

    def mrmlViewNode(self) -> Any:
        return self.mrmlAbstractViewNode()


class qMRMLLayoutManager(_LayoutFactory, metaclass=StandIn):
    """Follows the scene's layout node: a view logic for each view that a layout names."""

    _defaults = {"enabled": True}  # noqa: RUF012

    def _setup(self) -> None:
        self.__dict__.update(_scene=None, _slices={}, _views={})
        self.__dict__["_logic"] = slicer.vtkMRMLLayoutLogic()

    def mrmlScene(self) -> Any:
        return self.__dict__["_scene"]

    def layoutLogic(self) -> Any:
        return self.__dict__["_logic"]

    def setMRMLScene(self, scene: Any) -> None:
        self.__dict__["_scene"] = scene
        if scene is None:
            for widget in (*self._slices.values(), *self._views.values()):
                widget.logic().SetMRMLScene(None)
            self._slices.clear()
            self._views.clear()
        else:
            # Python cannot give a view logic its node, only let it make one: so before the layout
            # does. The logics of further 3D views stay without a node.
            self._add_three_d("1", None)
        self.layoutLogic().SetMRMLScene(scene)
        if scene is not None:
            self.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)

    def setLayout(self, layout: int) -> None:
        self.layoutLogic().GetLayoutNode().SetViewArrangement(layout)
        self._make_views()
        emit(self, "layoutChanged(int)", layout)

    def sliceViewNames(self) -> tuple[str, ...]:
        self._make_views()
        return tuple(node.GetLayoutName() for node in self._nodes("vtkMRMLSliceNode"))

    def sliceWidget(self, name: str) -> Any:
        self._make_views()
        return self._slices.get(name)

    def threeDWidget(self, which: int | str) -> Any:
        self._make_views()
        if isinstance(which, str):
            return self._views.get(which)
        nodes = self._nodes("vtkMRMLViewNode")
        return self._views[nodes[which].GetLayoutName()] if which < len(nodes) else None

    def mrmlSliceLogics(self) -> Any:
        return slicer.app.applicationLogic().GetSliceLogics()

    def resetSliceViews(self) -> None:
        for name in self.sliceViewNames():
            fit(self.sliceWidget(name).logic())

    def resetThreeDViews(self) -> None:
        """The cameras take in all that is shown, once it is drawn."""
        self._make_views()
        for widget in self._views.values():
            widget.threeDView().__dict__["_framed"] = False

    def _get_layout(self) -> int:
        node = self.layoutLogic().GetLayoutNode()
        return int(node.GetViewArrangement()) if node else 0

    def _set_layout(self, layout: int) -> None:
        self.setLayout(layout)

    def _get_threeDViewCount(self) -> int:
        return len(self._nodes("vtkMRMLViewNode"))

    def _nodes(self, class_name: str) -> list[Any]:
        """Return the view nodes of one kind in the present layout."""
        if self.mrmlScene() is None:
            return []
        views = self.layoutLogic().GetViewNodes()
        nodes = [views.GetItemAsObject(index) for index in range(views.GetNumberOfItems())]
        return [node for node in nodes if node.IsA(class_name)]

    def _make_views(self) -> None:
        application = slicer.app.applicationLogic()
        for node in self._nodes("vtkMRMLSliceNode"):
            if node.GetLayoutName() not in self._slices:
                logic = slicer.vtkMRMLSliceLogic()
                self._slices[node.GetLayoutName()] = make_widget(qMRMLSliceWidget, logic, node)
                connect(logic)
                logic.SetSliceNode(node)
                application.GetSliceLogics().AddItem(logic)
                logic.ResizeSliceNode(*VIEW_SIZE)
        for node in self._nodes("vtkMRMLViewNode"):
            if node.GetLayoutName() not in self._views:
                self._add_three_d(node.GetLayoutName(), node)

    def _add_three_d(self, name: str, node: Any) -> None:
        logic = slicer.vtkMRMLViewLogic()
        self._views[name] = widget = make_widget(qMRMLThreeDWidget, logic, node)
        connect(logic)
        slicer.app.applicationLogic().GetViewLogics().AddItem(logic)
        widget.__dict__["_node"] = node or logic.AddViewNode(name)


class qSlicerLayoutManager(qMRMLLayoutManager, metaclass=StandIn):
    """The desktop's layout manager."""

    def _setup(self) -> None:
        qMRMLLayoutManager._setup(self)


def make_widget(cls: Any, logic: Any, node: Any) -> Any:
    """Make a view widget around a logic."""
    widget = cls()
    widget.__dict__.update(_logic=logic, _node=node)
    return widget


def connect(logic: Any) -> None:
    """Let a view's logic know the application and the scene.

    It adds nodes then, and who watches the scene asks for all views: its widget has to be known.
    """
    logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())
    logic.SetMRMLScene(slicer.mrmlScene)


def fit(logic: Any) -> None:
    logic.FitSliceToBackground(*VIEW_SIZE)
    logic.SnapSliceOffsetToIJK()
