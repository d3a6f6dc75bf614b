"""Previews: what is where in the picture, whatever the axes of the volume."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from MedDiffusionLib.compute.errors import UserError
from MedDiffusionLib.volumes.preview import write_preview
from MedDiffusionLib.volumes.volume import Grid, Kind, Volume

RED, GREEN = (255, 0, 0), (0, 255, 0)
FRAME, HEIGHT = 2, 360
"""Pixels of border about each panel, and of a panel's height."""


def grid(
    axes: NDArray[np.float64], spacing: tuple[float, float, float], size: tuple[int, int, int]
) -> Grid:
    """The grid with unit vectors ``axes`` (columns, RAS) whose middle lies at (10, -20, 30) mm."""
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    affine[:3, 3] = np.array([10, -20, 30]) - affine[:3, :3] @ ((np.array(size) - 1) / 2)
    return Grid(size, affine)


def distance(grid: Grid, point: tuple[float, float, float]) -> NDArray[np.float64]:
    """Distance in mm of every voxel to a point given from the grid's middle, in RAS."""
    indices = np.indices(grid.size).reshape(3, -1).T.astype(float)
    offset = grid.positions(indices) - np.array([10, -20, 30]) - point
    return np.linalg.norm(offset, axis=1).reshape(grid.size)


def image_of(grid: Grid, array: NDArray) -> Volume:
    return Volume(array.astype(np.float32), grid.affine, Kind.INTENSITY)


def labels_of(grid: Grid, array: NDArray) -> Volume:
    return Volume(array.astype(np.int32), grid.affine, Kind.LABEL)


def panels(
    path: Path, image: Volume, labels: Volume, colors: dict[int, tuple[int, int, int]]
) -> list[list[NDArray[np.int64]]]:
    """The panels ``[row][plane]`` of the preview, each ``[row, column, RGB]``, without borders.

    All pixels of a border are of one dark gray, so panels are found between such columns.
    """
    write_preview(path, image, labels, colors)
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).astype(int)
    rows = np.split(picture, 2)
    empty = (picture == 16).all((0, 2))
    edges = np.flatnonzero(np.diff(np.concatenate([[1], empty, [1]])))
    return [
        [row[FRAME:-FRAME, a:b] for a, b in zip(edges[::2], edges[1::2], strict=True)]
        for row in rows
    ]


def middle_of(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Where a mask lies in its panel: (down, right) from the panel's middle, in its heights."""
    middle: NDArray[np.float64] = np.argwhere(mask).mean(0)
    return (middle + 0.5 - np.array(mask.shape) / 2) / mask.shape[0]


def has(panel: NDArray[np.int64], color: tuple[int, int, int]) -> NDArray[np.bool_]:
    return np.asarray((panel == color).all(-1))


def extent(mask: NDArray[np.bool_]) -> tuple[int, int]:
    """Rows and columns from the first to the last true pixel."""
    rows, columns = np.argwhere(mask).T
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


ROTATED = np.linalg.qr(np.array([[1, 0.3, -0.2], [-0.3, 1, 0.25], [0.2, -0.2, 1]]))[0]
AXES = {
    "RAS": np.eye(3),
    "LPS": np.diag([-1.0, -1.0, 1.0]),
    "SAL": np.array([[0, 0, -1], [0, 1, 0], [1, 0, 0.0]]),
    "PIR": np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0.0]]),
    "oblique": ROTATED * np.sign(np.diag(ROTATED)),
}


@pytest.mark.parametrize("axes", AXES.values(), ids=AXES)
def test_right_front_and_top_of_the_patient_are_left_top_and_top(
    axes: NDArray[np.float64], tmp_path: Path
) -> None:
    where = grid(axes, (1.0, 1.0, 1.0), (90, 90, 90))
    blob = image_of(where, 1000 * np.exp(-np.square(distance(where, (9, 6, 3)) / 9)))
    labels = labels_of(where, distance(where, (0, 0, 0)) < 10)
    (axial, coronal, sagittal), _ = panels(tmp_path / "p.png", blob, labels, {})
    for panel, down, right in ((axial, -6, -9), (coronal, -3, -9), (sagittal, -3, -6)):
        gray = panel[..., 0].copy()
        gray[:, :20] = 0  # the letter
        # The label's 20 mm and 25 mm on either side are shown.
        assert 70 * middle_of(gray >= 0.9 * gray.max()) == pytest.approx([down, right], abs=1)


def test_a_preview_is_an_rgb_png_of_two_rows_of_three_planes(tmp_path: Path) -> None:
    where = grid(np.eye(3), (1.0, 1.0, 1.0), (40, 50, 30))
    image = image_of(where, distance(where, (0, 0, 0)))
    labels = labels_of(where, distance(where, (0, 0, 0)) < 10)
    write_preview(tmp_path / "p.png", image, labels, {1: RED})
    content = (tmp_path / "p.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth, color_type = struct.unpack(">IIBB", content[16:26])
    assert (depth, color_type) == (8, 2)
    assert height == 2 * (HEIGHT + 2 * FRAME)
    # 40 x 50, 40 x 30 and 50 x 30 mm, each scaled to the height.
    assert width == sum(
        round(HEIGHT * w / h) + 2 * FRAME for w, h in ((40, 50), (40, 30), (50, 30))
    )
    assert [p.name for p in tmp_path.iterdir()] == ["p.png"]


def test_only_the_bottom_row_has_outlines(tmp_path: Path) -> None:
    where = grid(np.eye(3), (1.0, 1.0, 1.0), (40, 40, 40))
    image = image_of(where, distance(where, (5, 5, 5)))
    labels = labels_of(
        where, (distance(where, (0, 0, 0)) < 10) * (1 + (distance(where, (0, 9, 9)) < 9))
    )
    top, bottom = panels(tmp_path / "p.png", image, labels, {1: RED, 2: GREEN})
    for plain, outlined in zip(top, bottom, strict=True):
        assert (plain[..., 0] == plain[..., 1]).all() and (plain[..., 0] == plain[..., 2]).all()
        lines = has(outlined, RED) | has(outlined, GREEN)
        assert lines.any()
        np.testing.assert_array_equal(outlined[~lines], plain[~lines])


def test_labels_without_a_color_have_no_outline(tmp_path: Path) -> None:
    where = grid(np.eye(3), (1.0, 1.0, 1.0), (40, 40, 40))
    image = image_of(where, distance(where, (5, 5, 5)))
    labels = labels_of(where, 3 * (distance(where, (0, 0, 0)) < 10))
    top, bottom = panels(tmp_path / "p.png", image, labels, {1: RED})
    for plain, outlined in zip(top, bottom, strict=True):
        np.testing.assert_array_equal(outlined, plain)


@pytest.mark.parametrize(
    ("axes", "spacing"),
    [(np.eye(3), (1.0, 1.0, 3.0)), (AXES["SAL"], (2.5, 1.0, 0.5)), (AXES["oblique"], (1, 1, 2.5))],
)
def test_a_ball_is_round_and_its_outline_thin_whatever_the_spacing(
    axes: NDArray[np.float64], spacing: tuple[float, float, float], tmp_path: Path
) -> None:
    x, y, z = (round(120 / s) for s in spacing)
    where = grid(axes, spacing, (x, y, z))
    ball = distance(where, (0, 0, 0)) < 15
    _, bottom = panels(tmp_path / "p.png", image_of(where, ball), labels_of(where, ball), {1: RED})
    for panel in bottom:
        outline = has(panel, RED)
        # 80 mm are shown: the ball and 25 mm on either side, in whole voxels.
        diameter = HEIGHT * 30 / 80
        assert extent(outline) == pytest.approx((diameter, diameter), rel=0.12)
        assert outline.sum() == pytest.approx(np.pi * diameter, rel=0.25)


def test_planes_meet_the_label_where_its_centroid_lies_outside_it(tmp_path: Path) -> None:
    where = grid(np.eye(3), (1.0, 1.0, 1.0), (64, 64, 64))
    left, right = distance(where, (-18, 0, 0)) < 6, distance(where, (18, 0, 0)) < 6
    labels = labels_of(where, left | right)
    _, bottom = panels(tmp_path / "p.png", image_of(where, left), labels, {1: RED})
    assert all(has(panel, RED).any() for panel in bottom)


def test_the_brightest_and_darkest_tissue_are_white_and_black_on_any_background(
    tmp_path: Path,
) -> None:
    where = grid(np.eye(3), (1.0, 1.0, 1.0), (50, 50, 50))
    ball = distance(where, (0, 0, 0)) < 20
    on_the_right = distance(where, (30, 0, 0)) < distance(where, (-30, 0, 0))
    image = image_of(where, np.where(ball, np.where(on_the_right, 400, 200), -1000))
    (axial, coronal, _), _ = panels(tmp_path / "p.png", image, labels_of(where, ball), {})
    for panel in (axial, coronal):
        right, left = panel[150:210, 100:160], panel[150:210, 200:260]
        assert right.min() > 235 and left.max() < 20


def test_outlines_do_not_leave_an_oblique_volume(tmp_path: Path) -> None:
    where = grid(AXES["oblique"], (1.0, 1.0, 1.0), (40, 40, 40))
    # White but for a dark middle; the one darkest voxel is what lies outside is shown as, black.
    image = np.where(distance(where, (0, 0, 0)) < 8, 10, 1000)
    image[0, 0, 0] = 0
    top, bottom = panels(
        tmp_path / "p.png", image_of(where, image), labels_of(where, image > -1), {1: RED}
    )
    for plain, outlined in zip(top, bottom, strict=True):
        assert plain[has(outlined, RED), 0].min() > 64


def test_an_image_of_one_value_makes_a_preview(tmp_path: Path) -> None:
    where = grid(np.eye(3), (1.0, 1.0, 1.0), (20, 20, 20))
    labels = labels_of(where, distance(where, (0, 0, 0)) < 5)
    top, _ = panels(tmp_path / "p.png", image_of(where, np.full(where.size, 7.0)), labels, {1: RED})
    assert len(top) == 3


def test_a_thin_slab_stays_within_the_width_of_a_panel(tmp_path: Path) -> None:
    where = grid(np.eye(3), (1.0, 1.0, 1.0), (90, 90, 3))
    labels = labels_of(where, distance(where, (0, 0, 0)) < 30)
    image = image_of(where, np.random.default_rng(0).random(where.size))
    _, (_, coronal, _) = panels(tmp_path / "p.png", image, labels, {1: RED})
    assert coronal.shape[1] == 720
    assert extent(has(coronal, RED))[0] <= 720 / 90 * 3


def test_image_and_labels_on_different_grids_are_refused(tmp_path: Path) -> None:
    first = grid(np.eye(3), (1.0, 1.0, 1.0), (20, 20, 20))
    second = grid(np.eye(3), (1.0, 1.0, 1.1), (20, 20, 20))
    ones = np.ones(first.size)
    with pytest.raises(ValueError, match="same grid"):
        write_preview(tmp_path / "p.png", image_of(first, ones), labels_of(second, ones), {})
    assert not list(tmp_path.iterdir())


def test_an_empty_label_map_is_refused(tmp_path: Path) -> None:
    where = grid(np.eye(3), (1.0, 1.0, 1.0), (20, 20, 20))
    nothing = np.zeros(where.size)
    with pytest.raises(UserError, match="empty"):
        write_preview(tmp_path / "p.png", image_of(where, nothing), labels_of(where, nothing), {})
