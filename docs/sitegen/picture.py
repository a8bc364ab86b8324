"""The README's picture: strong PTQ and QAT on digits, drawn from the kept results. `python -m sitegen.picture` writes
it to `docs/digits.svg`, where a page that is no part of the site can show it."""

import re
from dataclasses import replace

from sitegen.figures import forest
from sitegen.results import Table, read
from sitegen.source import ROOT

FILE = ROOT / "docs" / "digits.svg"
STUDY, PANELS = "digits_ptq_vs_qat", ("w4a4", "w2a4")
DRAWING = re.compile(
    r"<svg viewBox=\"0 0 (?P<width>\d+) (?P<height>\d+)\" (?P<about>[^>]*)>(?P<marks>.*)</svg>", re.DOTALL
)
EDGE = 16
"""Pixels of paper around the drawing, which is white so that the picture can be read on a dark page too."""


def picture() -> str:
    """The text of the picture: a forest plot of the study's arms at a few numbers of bits."""
    table = read(STUDY)
    arms = {name: arm for name, arm in table.arms.items() if name == "float" or arm.bits in PANELS}
    return framed(replace(table, arms=arms))


def framed(table: Table) -> str:
    """A study's forest plot as a file of its own, on white."""
    drawn = DRAWING.search(forest(table))
    if drawn is None:
        raise ValueError(f"The figure of {table.name} has no drawing in it.")
    width, height = int(drawn["width"]) + 2 * EDGE, int(drawn["height"]) + 2 * EDGE
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'color="#1f2328" {drawn["about"]}><rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>'
        f'<g transform="translate({EDGE},{EDGE})">{drawn["marks"]}</g></svg>\n'
    )


if __name__ == "__main__":
    FILE.write_text(picture(), encoding="utf-8")
