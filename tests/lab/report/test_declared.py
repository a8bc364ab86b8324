"""Declared contrasts in a study's report, and how often a study without any difference claims one."""

import json

import numpy as np
from records import make_record, write_study

from qat.lab.report.contents import Declared, read_contents
from qat.lab.report.html.verdicts import answer
from qat.lab.report.summary import summarize
from qat.lab.report.table import contrasts, exploratory, markdown
from qat.lab.report.write import rows_of
from qat.lab.stats import compare_seeds
from qat.lab.stats.contrasts import Contrast

RECIPES = ("w8a8", "w4a4", "w2a4")
ARMS = (
    ("float", None),
    ("control", None),
    *((arm, recipe) for recipe in RECIPES for arm in ("ptq", "qat")),
)


def study(rng, seeds=4, losses=None):
    """Records of all arms, each with its loss in points, and noise of 0.3 points."""
    return [
        make_record(
            arm,
            recipe,
            seed,
            0.9 + 0.003 * rng.normal() - (losses or {}).get((arm, recipe), 0.0) / 100,
        )
        for arm, recipe in ARMS
        for seed in range(seeds)
    ]


def declared(records, first, second, seen=0, margin=None):
    """The contrast between two arms, as a study holds it."""
    sides = [frozenset(r.trial for r in records if (r.arm, r.recipe) == side) for side in (first, second)]
    names = [" ".join(filter(None, side)) for side in (first, second)]
    return Declared(Contrast(names[0], names[1], margin=margin), sides[0], sides[1], seen=seen)


def test_declared_contrasts_are_a_family_of_their_own():
    records = study(np.random.default_rng(0), losses={("ptq", "w4a4"): 2.0, ("ptq", "w2a4"): 3.0})
    asked = [
        declared(records, ("qat", "w4a4"), ("ptq", "w4a4")),
        declared(records, ("ptq", "w8a8"), ("ptq", "w4a4")),
    ]
    rows = summarize(records, contrasts=asked)
    found, others = contrasts(rows), exploratory(rows)
    assert [(one.first, one.second) for one in found] == [("PTQ w8a8", "PTQ w4a4"), ("QAT w4a4", "PTQ w4a4")]
    assert {one.seeds.comparisons for one in found if one.seeds} == {2}
    assert {one.seeds.comparisons for one in others if one.seeds} == {8} and len(others) == 8
    assert all(one.declared and one.kind == "better" for one in found)
    qat = next(row for row in rows if row.name == "QAT w4a4")
    assert qat.verdicts["ptq"] is qat.contrasts[0]
    assert "corrected for 2 declared contrasts" in found[0].text and "corrected for 8 comparisons" in others[0].text


def test_the_report_tells_declared_contrasts_first(tmp_path):
    records = study(np.random.default_rng(0), losses={("ptq", "w4a4"): 2.0})
    root = write_study(tmp_path / "study", records)
    path = root / "study.json"
    content = json.loads(path.read_text())
    content["contrasts"] = [{"first": "qat w4a4", "second": "ptq w4a4", "seen": 0}]
    path.write_text(json.dumps(content))
    contents = read_contents(root)
    rows = rows_of(contents)
    text, page = markdown(rows, "s"), str(answer(rows))
    for told in (text, page):
        before, after = told.split("exploratory")[:2]
        assert "QAT w4a4 is better than PTQ w4a4 by" in before
        assert "QAT w4a4 is better than PTQ w4a4 by" not in after


def test_a_contrast_declared_after_a_look_is_corrected_with_all_others():
    records = study(np.random.default_rng(0), losses={("ptq", "w4a4"): 2.0})
    rows = summarize(records, contrasts=[declared(records, ("qat", "w4a4"), ("ptq", "w4a4"), seen=4)])
    (late,) = contrasts(rows)
    assert not late.declared and late.seeds is not None and late.seeds.comparisons == 9
    assert "It was declared after results of it were there" in markdown(rows, "s")


def test_a_contrast_may_have_a_margin_of_its_own():
    records = study(np.random.default_rng(0))
    rows = summarize(records, contrasts=[declared(records, ("ptq", "w8a8"), ("float", None), margin=2.0)])
    (found,) = contrasts(rows)
    assert (found.kind, found.margin) == ("equivalent", 2.0)


def test_a_study_without_differences_claims_one_once_in_20_over_all_questions():
    rng, claimed, naive = np.random.default_rng(1), 0, 0
    studies = 300  # the standard error of the share is 0.013
    for _ in range(studies):
        rows = summarize(study(rng))
        kinds = {one.kind for one in exploratory(rows)}
        claimed += bool(kinds & {"better", "worse"})
        scores = {row.name: row.score.values for row in rows}
        alone = [compare_seeds(scores[f"QAT {r}"], scores[f"PTQ {r}"]).kind for r in RECIPES]
        naive += bool({"better", "worse"} & {*alone})
    assert claimed / studies <= 0.05 + 2 * 0.013
    assert naive / studies > 0.1  # uncorrected tests of one question alone claim more


def test_declared_contrasts_hold_the_error_too():
    rng, claimed, studies = np.random.default_rng(2), 0, 100
    for _ in range(studies):
        records = [one for one in study(rng) if one.arm in ("ptq", "qat")]
        asked = [declared(records, ("qat", recipe), ("ptq", recipe)) for recipe in RECIPES]
        claimed += any(one.kind in ("better", "worse") for one in contrasts(summarize(records, contrasts=asked)))
    assert claimed / studies <= 0.05 + 2 * 0.022
