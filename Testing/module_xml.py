"""The lists of names in the CLI modules' XML, which come from the registries.

    make xml

writes them anew after a sampler or device was added; a test holds that they are up to date.
"""

from __future__ import annotations

import re
from pathlib import Path

from MedDiffusionLib.compute.devices import DEVICES
from MedDiffusionLib.diffusion.samplers import SAMPLERS

FOLDER = Path(__file__).parents[1] / "MedDiffusion" / "CLI"
NAMES = {"sampler": ("default", *SAMPLERS), "device": DEVICES}
"""The names that each enumerated parameter offers."""


def up_to_date(xml: str) -> str:
    """An XML description with the elements of its enumerations written anew."""

    def replaced(match: re.Match[str]) -> str:
        names = NAMES[match["name"]]
        return match["head"] + "".join(f"      <element>{name}</element>\n" for name in names)

    enumeration = re.compile(
        r"(?P<head> *<string-enumeration>\s*<name>(?P<name>\w+)</name>(?:(?!<element>).)*\n)"
        r"(?: *<element>[^<]*</element>\n)+",
        re.DOTALL,
    )
    return enumeration.sub(replaced, xml)


def main() -> None:
    for path in sorted(FOLDER.glob("*.xml")):
        path.write_text(up_to_date(path.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
