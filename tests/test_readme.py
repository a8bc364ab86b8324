"""The README is short, and all that it shows and links to is there."""

import re

from sitegen import picture, results
from sitegen.source import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
LINKS = re.findall(r"\]\(([^)\s]+)\)", README)
LONGEST = 110


def test_it_is_read_in_a_minute():
    assert README.count("\n") <= LONGEST


def test_its_links_lead_to_files_of_the_repository():
    assert LINKS
    assert [link for link in LINKS if not (ROOT / link.partition("#")[0]).is_file()] == []


def test_its_picture_is_drawn_from_the_kept_results():
    assert str(picture.FILE.relative_to(ROOT)) in LINKS
    assert picture.FILE.read_text(encoding="utf-8") == picture.picture(), "Run `python -m sitegen.picture`."


def test_the_picture_has_a_mark_for_each_quantized_arm_and_asks_no_other_host():
    table = results.read(picture.STUDY)
    arms = [arm for arm in table.arms.values() if arm.bits in picture.PANELS]
    drawn = picture.picture()
    assert drawn.count("<circle") + drawn.count("◀") + drawn.count("▶") == len(arms)
    assert re.findall(r"\w+://[^\"<]+", drawn) == ["http://www.w3.org/2000/svg"]


def test_every_page_of_the_documentation_is_one_link_away():
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    assert pages - {link.partition("#")[0] for link in LINKS} == set()


def test_its_answers_have_the_figures_of_their_studies():
    section = README.split("## Three answers so far")[1].split("\n## ")[0]
    answers = re.findall(r"\*\*.*?\(\[study\]\(([^)]+)\)", section, re.DOTALL)
    assert len(answers) == 3
    for text, study in zip(re.split(r"\(\[study\]\([^)]+\)", section), answers, strict=False):
        told = " ".join((ROOT / study).read_text(encoding="utf-8").split())
        assert [figure for figure in re.findall(r"\d+\.\d+ ± \d+\.\d+", text) if figure not in told] == []
