"""Affines (4 x 4, RAS, mm) of MRML nodes, in their own frame and in the world's."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray

from ..compute.errors import UserError
from .translation import _

_ORTHOGONAL = 1e-3
"""Largest cosine between two axes of a voxel that still counts as a right angle."""


def node_affine(node: slicer.vtkMRMLVolumeNode) -> NDArray[np.float64]:
    """The IJK to RAS matrix of a volume node, without its parent transform."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def set_node_affine(node: slicer.vtkMRMLVolumeNode, affine: NDArray[np.float64]) -> None:
    """Set the IJK to RAS matrix of a volume node."""
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(affine))


def world_affine(
    node: slicer.vtkMRMLTransformableNode, affine: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``affine`` in the node's frame taken to the world through the node's parent transforms.

    Raises UserError where they are not linear, or shear the voxels.
    """
    transform = node.GetParentTransformNode()
    if transform is None:
        return affine
    if not transform.IsTransformToWorldLinear():
        raise UserError(
            _("{name} lies under the non-linear transform {transform}").format(
                name=node.GetName(), transform=transform.GetName()
            ),
            _("harden the transform, or move it out"),
        )
    matrix = vtk.vtkMatrix4x4()
    transform.GetMatrixTransformToWorld(matrix)
    world = slicer.util.arrayFromVTKMatrix(matrix) @ affine
    axes = world[:3, :3] / np.linalg.norm(world[:3, :3], axis=0)
    if not np.isfinite(axes).all() or np.abs(axes.T @ axes - np.eye(3)).max() > _ORTHOGONAL:
        raise UserError(
            _("The transform {transform} shears the voxels of {name}").format(
                transform=transform.GetName(), name=node.GetName()
            ),
            _("harden the transform, or move it out"),
        )
    return world
