"""Draws the scene off screen with Slicer's own displayable managers.

VTK finds EGL (Mesa) by itself where there is no display; a slice takes about 0.1 s, a volume
rendering a second or two. Each view keeps its render window: close it when done.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import vtk_to_numpy

SLICE_MANAGERS = (
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLVolumeGlyphSliceDisplayableManager",
    "vtkMRMLCrosshairDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLScalarBarDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
)
THREE_D_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLThreeDReformatDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLMarkupsDisplayableManager",
    "vtkMRMLVolumeRenderingDisplayableManager",
    "vtkMRMLOrientationMarkerDisplayableManager",
)


class View:
    """Draws the window of a view widget: what its node says, and what a module adds to it."""

    def __init__(self, node: Any, widget: Any, factory: Any, managers: tuple[str, ...]) -> None:
        self.node = node
        self.window = widget.renderWindow()
        self.renderer = self.window.GetRenderers().GetFirstRenderer()
        self._interactor = vtk.vtkRenderWindowInteractor()
        self._interactor.SetRenderWindow(self.window)
        factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        for name in managers:
            if not factory.IsDisplayableManagerRegistered(name):
                factory.RegisterDisplayableManager(name)
        self._managers = factory.InstantiateDisplayableManagers(self.renderer)
        self._managers.SetMRMLDisplayableNode(node)

    def array(self, width: int = 400, height: int = 300) -> NDArray[np.uint8]:
        """Draw the view; rows from the top, RGB."""
        self.window.SetSize(width, height)
        self._prepare(width, height)
        self.window.Render()
        reader = vtk.vtkWindowToImageFilter()
        reader.SetInput(self.window)
        reader.ReadFrontBufferOff()
        reader.Update()
        image = reader.GetOutput()
        columns, rows, _ = image.GetDimensions()
        values = vtk_to_numpy(image.GetPointData().GetScalars())
        return np.ascontiguousarray(values.reshape(rows, columns, -1)[::-1, :, :3])

    def save(self, path: Path, width: int = 400, height: int = 300) -> None:
        """Write the picture as a PNG file."""
        from PySide6.QtGui import QImage

        pixels = self.array(width, height)
        rows, columns, _ = pixels.shape
        image = QImage(pixels.data, columns, rows, 3 * columns, QImage.Format.Format_RGB888)
        if not image.save(str(path)):
            raise OSError(f"cannot write {path}")

    def close(self) -> None:
        self._managers.SetMRMLDisplayableNode(None)
        self.window.Finalize()

    def _prepare(self, width: int, height: int) -> None:
        """Bring the view to the size of the picture."""


class SliceView(View):
    """A slice view: the layers blended by its slice logic, and what lies on them."""

    def __init__(self, logic: Any) -> None:
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        node = logic.GetSliceNode()
        widget = slicer.app.layoutManager().sliceWidget(node.GetLayoutName()).sliceView()
        super().__init__(node, widget, factory, SLICE_MANAGERS)
        self._logic = logic
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        self._layers = vtk.vtkActor2D()
        self._layers.SetMapper(self._mapper)
        self._layers.GetProperty().SetDisplayLocationToBackground()
        self.renderer.GetActiveCamera().ParallelProjectionOn()

    def _prepare(self, width: int, height: int) -> None:
        """Without a volume the logic has no image, which VTK's mapper would call an error."""
        self._logic.ResizeSliceNode(width, height)
        connection = self._logic.GetImageDataConnection()
        self._mapper.SetInputConnection(connection)
        shown = self.renderer.HasViewProp(self._layers)
        if connection is not None and not shown:
            self.renderer.AddActor2D(self._layers)
        elif connection is None and shown:
            self.renderer.RemoveActor2D(self._layers)


class ThreeDView(View):
    """A 3D view."""

    def __init__(self, node: Any) -> None:
        factory = slicer.vtkMRMLThreeDViewDisplayableManagerFactory.GetInstance()
        widget = slicer.app.layoutManager().threeDWidget(node.GetLayoutName()).threeDView()
        super().__init__(node, widget, factory, THREE_D_MANAGERS)
        self._widget = widget

    def _prepare(self, width: int, height: int) -> None:
        if not self._widget.__dict__.get("_framed"):
            self.window.Render()  # What is shown is there only once it is drawn.
            self.renderer.ResetCamera()
            self._widget.__dict__["_framed"] = True
        self.renderer.ResetCameraClippingRange()
