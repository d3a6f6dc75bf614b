"""NIfTI-1 and NIfTI-2 headers, both ways.

They are handled here because SimpleITK's NIfTI reader fills a cut file with zeros, turns NaN into
0, a zero spacing into 1, takes spacing and axes from different fields and knows no NIfTI-2, and
because its writer reports success on a full disk.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from .errors import UserError
from .headers import Header, affine_from, no_geometry

_NIFTI1 = np.dtype([
    ("sizeof_hdr", "i4"), ("unused", "S35"), ("dim_info", "u1"), ("dim", "i2", (8,)),
    ("intent_p", "f4", (3,)), ("intent_code", "i2"), ("datatype", "i2"), ("bitpix", "i2"),
    ("slice_start", "i2"), ("pixdim", "f4", (8,)), ("vox_offset", "f4"), ("scl_slope", "f4"),
    ("scl_inter", "f4"), ("slice_end", "i2"), ("slice_code", "u1"), ("xyzt_units", "u1"),
    ("cal_max", "f4"), ("cal_min", "f4"), ("slice_duration", "f4"), ("toffset", "f4"),
    ("unused_range", "i4", (2,)), ("descrip", "S80"), ("aux_file", "S24"), ("qform_code", "i2"),
    ("sform_code", "i2"), ("quatern", "f4", (3,)), ("qoffset", "f4", (3,)), ("srow", "f4", (3, 4)),
    ("intent_name", "S16"), ("magic", "S4"),
])  # fmt: skip
_NIFTI2 = np.dtype([
    ("sizeof_hdr", "i4"), ("magic", "S8"), ("datatype", "i2"), ("bitpix", "i2"),
    ("dim", "i8", (8,)), ("intent_p", "f8", (3,)), ("pixdim", "f8", (8,)), ("vox_offset", "i8"),
    ("scl_slope", "f8"), ("scl_inter", "f8"), ("cal_max", "f8"), ("cal_min", "f8"),
    ("slice_duration", "f8"), ("toffset", "f8"), ("slice_start", "i8"), ("slice_end", "i8"),
    ("descrip", "S80"), ("aux_file", "S24"), ("qform_code", "i4"), ("sform_code", "i4"),
    ("quatern", "f8", (3,)), ("qoffset", "f8", (3,)), ("srow", "f8", (3, 4)), ("slice_code", "i4"),
    ("xyzt_units", "i4"), ("intent_code", "i4"), ("intent_name", "S16"), ("dim_info", "u1"),
    ("unused", "S15"),
])  # fmt: skip
_LAYOUTS = {348: (_NIFTI1, b"n+1"), 540: (_NIFTI2, b"n+2")}
_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8",
    1280: "u8",
}  # fmt: skip
_VECTOR_TYPES = (32, 128, 1792, 2048, 2304)
"""Complex numbers and colours."""
_MM_PER_UNIT = {1: 1000.0, 3: 0.001}
"""By unit code: metre and micrometre; millimetre and unknown are taken for mm."""
_UNIT_MASK = 7
_UNIT_MM = 2
_EXTENSION_FLAG = 4
"""Bytes between the header and its extensions that say whether there are any."""
_COMMENT = 6
"""Extension code of plain text."""


def nifti_header(stream: BinaryIO, path: Path) -> Header:
    """The header of a .nii file; raises ValueError when damaged, UserError when of no use.

    The geometry is the sform's where the file has one, else the qform's, as in nibabel; a file
    with neither is refused.
    """
    start = stream.read(4)
    little = int.from_bytes(start, "little") in _LAYOUTS
    order: Literal["<", ">"] = "<" if little else ">"
    layout, magic = _LAYOUTS[int.from_bytes(start, "little" if little else "big")]
    fields = np.frombuffer(start + stream.read(layout.itemsize - 4), layout.newbyteorder(order))[0]
    rank = int(fields["dim"][0])
    if not fields["magic"].startswith(magic) or not 1 <= rank <= 7:
        raise ValueError("no NIfTI header")
    if int(fields["datatype"]) in _VECTOR_TYPES:
        raise UserError(f"{path} has several values per voxel: give one scalar volume per file.")
    shape = [int(n) for n in fields["dim"][1 : rank + 1]]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    slope, intercept = float(fields["scl_slope"]), float(fields["scl_inter"])
    # By the standard a slope of 0 means unscaled; NaN is what some writers put for it.
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        slope, intercept = 1.0, 0.0
    return Header(
        shape=tuple(shape),
        affine=_affine(fields, path) if len(shape) == 3 else np.eye(4),
        dtype=np.dtype(_TYPES[int(fields["datatype"])]).newbyteorder(order),
        offset=max(int(fields["vox_offset"]), layout.itemsize + _EXTENSION_FLAG),
        slope=slope,
        intercept=intercept,
    )


def nifti_bytes(
    size: tuple[int, int, int],
    affine: NDArray[np.float64],
    dtype: np.dtype,
    metadata: Mapping[str, str],
) -> bytes:
    """All of a NIfTI-1 file that comes before the voxels.

    ``affine`` goes into sform and qform both, as scanner coordinates; ``metadata`` becomes a
    comment extension, one JSON object.
    """
    extension = _comment(metadata) if metadata else b""
    fields = np.zeros((), _NIFTI1.newbyteorder("<"))
    fields["sizeof_hdr"] = _NIFTI1.itemsize
    fields["dim"] = [3, *size, 1, 1, 1, 1]
    fields["datatype"] = next(c for c, t in _TYPES.items() if np.dtype(t) == dtype)
    fields["bitpix"] = 8 * dtype.itemsize
    fields["vox_offset"] = _NIFTI1.itemsize + _EXTENSION_FLAG + len(extension)
    fields["scl_slope"] = 1
    fields["xyzt_units"] = _UNIT_MM
    fields["magic"] = b"n+1"
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    handedness, quaternion = _quaternion(affine[:3, :3] / spacing)
    fields["pixdim"] = [handedness, *spacing, 0, 0, 0, 0]
    fields["qform_code"] = fields["sform_code"] = 1
    fields["quatern"] = quaternion
    fields["qoffset"] = affine[:3, 3]
    fields["srow"] = affine[:3]
    return fields.tobytes() + bytes([bool(extension), 0, 0, 0]) + extension


def _affine(fields: np.void, path: Path) -> NDArray[np.float64]:
    if fields["sform_code"] > 0:
        affine = np.vstack([fields["srow"].astype(float), [0, 0, 0, 1]])
    elif fields["qform_code"] > 0:
        axes = _rotation(fields["quatern"].astype(float))
        if fields["pixdim"][0] < 0:
            axes[:, 2] *= -1
        affine = affine_from(axes, fields["pixdim"][1:4], fields["qoffset"], path)
    else:
        raise no_geometry(path)
    affine[:3] *= _MM_PER_UNIT.get(int(fields["xyzt_units"]) & _UNIT_MASK, 1.0)
    return affine


def _rotation(quaternion: NDArray[np.float64]) -> NDArray[np.float64]:
    """3 x 3 rotation of the unit quaternion whose last three parts b, c, d are given."""
    b, c, d = quaternion
    a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
    b, c, d = quaternion / np.linalg.norm([a, b, c, d])
    return np.array([
        [1 - 2 * (c * c + d * d), 2 * (b * c - a * d), 2 * (b * d + a * c)],
        [2 * (b * c + a * d), 1 - 2 * (b * b + d * d), 2 * (c * d - a * b)],
        [2 * (b * d - a * c), 2 * (c * d + a * b), 1 - 2 * (b * b + c * c)],
    ])  # fmt: skip


def _quaternion(axes: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
    """Handedness (1 or -1, the sign of the third axis) and b, c, d of nearly orthonormal axes."""
    handedness = 1.0 if np.linalg.det(axes) > 0 else -1.0
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = axes * [1, 1, handedness]
    # The unit quaternion (a, b, c, d) is the main eigenvector of this matrix (Bar-Itzhack 2000).
    form = np.array([
        [xx + yy + zz, zy - yz, xz - zx, yx - xy],
        [zy - yz, xx - yy - zz, xy + yx, xz + zx],
        [xz - zx, xy + yx, yy - xx - zz, yz + zy],
        [yx - xy, xz + zx, yz + zy, zz - xx - yy],
    ])  # fmt: skip
    quaternion = np.linalg.eigh(form)[1][:, -1]
    return handedness, quaternion[1:] * (1 if quaternion[0] >= 0 else -1)


def _comment(metadata: Mapping[str, str]) -> bytes:
    text = json.dumps(dict(metadata), ensure_ascii=False).encode("utf-8")
    size = -(-(8 + len(text)) // 16) * 16
    return np.array([size, _COMMENT], "<i4").tobytes() + text.ljust(size - 8, b"\0")
