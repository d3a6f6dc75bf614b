"""Draws the library as a house: its rooms by floor, and the rooms that each imports from.

    make house
    PYTHONPATH=Testing python Testing/house.py TREE [TREE]    # source trees, beside each other

A room is a folder of the library, or a file that lies in none; a room stands above all that it
imports from.
"""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from test_rings import PACKAGE, imported_names

WIDTH = 96
"""Columns of a drawing that stands beside another."""


def read_house(tree: Path) -> tuple[dict[str, int], dict[str, set[str]]]:
    """The lines of every room, and the rooms that it imports from."""
    module = tree / "MedDiffusion"
    library = module / PACKAGE
    lines: dict[str, int] = {}
    arrows: dict[str, set[str]] = {}
    for path in sorted(library.rglob("*.py")):
        room = room_of(path.relative_to(library).with_suffix("").parts)
        if room == "__init__":
            continue
        lines[room] = lines.get(room, 0) + len(path.read_text("utf-8").splitlines())
        arrows.setdefault(room, set())
        for name in imported_names(path, module):
            top, *rest = name.split(".")
            if top == PACKAGE and rest:
                arrows[room].add(room_of(tuple(rest)))
    return lines, {room: (to - {room}) & lines.keys() for room, to in arrows.items()}


def room_of(parts: tuple[str, ...]) -> str:
    """The room of a module by the parts of its name below the library."""
    return parts[0]


def floors(arrows: dict[str, set[str]]) -> dict[str, int]:
    """Each room's floor; raises RecursionError where rooms import each other in a circle."""

    def floor(room: str) -> int:
        return 1 + max((floor(below) for below in arrows[room]), default=-1)

    return {room: floor(room) for room in arrows}


def draw(tree: Path) -> list[str]:
    """The house as lines of text, the top floor first."""
    lines, arrows = read_house(tree)
    on = floors(arrows)
    count = sum(map(len, arrows.values()))
    drawn = [f"{len(arrows)} rooms, {count} arrows, {1 + max(on.values())} floors, no circle"]
    for room in sorted(arrows, key=lambda room: (-on[room], room)):
        below = ", ".join(sorted(arrows[room], key=lambda other: (-on[other], other)))
        drawn.append(f"{on[room]:>2}  {room} {lines[room]}" + (f" -> {below}" if below else ""))
    return drawn


def main() -> None:
    trees = [Path(name) for name in sys.argv[1:]] or [Path(__file__).parents[1]]
    columns = [draw(tree) for tree in trees]
    for row in itertools.zip_longest(*columns, fillvalue=""):
        print("".join(text[: WIDTH - 1].ljust(WIDTH) for text in row[:-1]) + row[-1])


if __name__ == "__main__":
    main()
