"""Generated pages: cards of all methods, studies with their kept results, and lists that are as long as they say."""

import re

import pytest
from sitegen import cards, gallery, results
from sitegen.figures import forest
from sitegen.pages import generated, listing
from sitegen.source import ROOT, registered
from sitegen.verdicts import MARK

from qat.observers import observers
from qat.ptq import methods
from qat.quantizers import quantizers

PAGES = generated()
HAND = {
    str(path.relative_to(ROOT / "docs")): path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md")
}
KEPT = sorted(path.stem for path in gallery.STUDIES.glob("*.py") if results.kept(path.stem).exists())


@pytest.mark.parametrize(
    ("folder", "registry"), [("observers", observers), ("quantizers", quantizers), ("ptq", methods)]
)
def test_every_method_of_the_package_has_a_card(folder, registry):
    own = {name for name in registry.names() if registry._factories[name].__module__.startswith("qat.")}
    assert {one.name for one in registered(folder)} == own
    assert {name for name in own if f"methods/{name}.md" not in PAGES} == set()


def test_cards_have_all_their_parts():
    assert cards.missing() == []


def test_a_card_tells_the_defaults_of_its_method():
    page = PAGES["methods/adaround.md"]
    for name, parameter in methods.signature("adaround").parameters.items():
        assert f"| `{name}` |" in page and f"`{parameter.default}` |" in page


def test_figures_on_cards_are_those_of_the_kept_table():
    table = results.read("digits_ptq_vs_qat")
    right, float_arm = table.arms["PTQ best w2a4"], table.arms["float"]
    assert results.shown(results.mean(right, "accuracy")) in PAGES["methods/adaround.md"]
    found = results.difference(right, float_arm, "accuracy")
    lost = [float(row) for row in right.columns["accuracy_drop_from_float"].values()]
    assert found is not None and found.mean == pytest.approx(-100 * sum(lost) / len(lost), abs=1e-3)


@pytest.mark.parametrize("name", KEPT)
def test_a_kept_study_has_a_figure_and_a_row_for_each_arm(name):
    page, table = PAGES[f"experiments/{name}.md"], results.read(name)
    assert all(f"\n| {arm} | " in page for arm in table.arms)
    marks = page.count("<circle") + page.count("◀") + page.count("▶")
    assert marks == (len(table.arms) - 1 if "float" in table.arms else 0)
    assert ("## Verdicts" in page) == results.kept(name).with_suffix(".npz").exists()


def test_arms_far_from_all_others_leave_the_axis_to_them():
    drawn = forest(results.read("digits_ptq_vs_qat"))
    assert "◀ -74.69" in drawn and "◀ -0.53" not in drawn


def test_a_study_page_has_the_parts_of_its_docstring():
    told = gallery.told(
        "Is it? In one file.\n\nSo it is asked.\n\n    qat sweep a.py\n\nCost: little.\n\nAnswer: yes.\n\nThe data."
    )
    assert (told.question, told.setting, told.commands) == (
        "Is it?",
        ["In one file.", "So it is asked."],
        ["qat sweep a.py"],
    )
    assert (told.cost, told.answer, told.notes) == ("little.", ["Answer: yes."], ["The data."])


@pytest.mark.parametrize("path", sorted((ROOT / "experiments").glob("*.py")), ids=lambda path: path.stem)
def test_every_study_has_a_page_with_a_question_a_command_and_a_cost(path):
    page = PAGES[f"experiments/{path.stem}.md"]
    assert page.split("\n\n")[1].strip("*").endswith("?")
    assert "```bash\n" in page and "Not measured" not in page


def test_marks_for_verdicts_name_studies_whose_outcomes_are_kept():
    marks = [mark[2] for text in (*HAND.values(), *PAGES.values()) for mark in MARK.finditer(text)]
    assert "quickstart" in marks
    assert all(results.kept(name).with_suffix(".npz").exists() for name in marks)


def rows(page):
    return [
        line
        for line in HAND[page].splitlines()
        if line.startswith("| ") and not line.startswith(("| word", "| question"))
    ]


def test_the_lists_are_as_long_as_they_should_be():
    assert len(rows("glossary.md")) == 40
    assert [int(row.split(".")[0].strip("| ")) for row in rows("questions.md")] == list(range(1, 26))
    assert all(re.search(r"\]\([\w/-]+\.md", row) for row in rows("questions.md"))


def test_every_page_is_listed_for_readers_of_plain_text():
    nav = [{"All": sorted({*HAND, *PAGES})}]
    assert listing(nav, ROOT / "docs").count("\n- [") == len({*HAND, *PAGES})
