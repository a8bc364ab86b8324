"""The page's section on post-training methods and allocated bits."""

from records import make_record, write_study

from qat.lab.report.contents import read_contents
from qat.lab.report.html.methods import has_allocation, has_steps, methods
from qat.lab.report.html.page import page
from qat.lab.report.write import rows_of

STEPS = (
    {"method": "equalize(sweeps=3)", "changed": ["a", "b", "c", "d"], "left": {"<e>": "no norm"}, "seconds": 1.0},
    {
        "method": "reestimate_bn",
        "changed": [],
        "left": {},
        "figures": {"share": 0.25, "odd": float("nan")},
        "seconds": 2.0,
    },
)
POINT = {"cost": 5718, "predicted": -0.5, "loss": 0.3, "bits": {"<layer>": "w4a8"}}
ALLOCATION = {"budget": "size", "unit": "bytes", "limit": 6000, "chosen": POINT, "uniform": None, "front": [POINT]}


def test_accounts_stand_by_arm_with_what_they_changed_left_and_took():
    records = [
        make_record("ptq", "w4a4", seed, ptq=tuple({**one, "seconds": 1.0 + seed} for one in STEPS)) for seed in (0, 1)
    ]
    groups = {"PTQ": records}
    told = methods(groups, ["an audit", "a file"])
    assert has_steps(groups) and not has_allocation(groups)
    assert "a, b, c and 1 more" in told and "&lt;e&gt; (no norm)" in told and "share 0.25" in told and "nan" not in told
    assert told.count(">1.50<") == 2 and "No trial of this study has an audit or a file." in told


def test_an_allocation_shows_its_points_and_the_bits_of_each_layer():
    groups = {"mixed": [make_record("ptq", "w4a4", allocation=ALLOCATION)]}
    told = methods(groups, [])
    assert has_allocation(groups) and not has_steps(groups)
    assert "at most 6000 bytes" in told and "5,718 bytes" in told and "&lt;layer&gt;" in told and "No trial" not in told


def test_a_page_says_which_methods_and_checks_no_trial_has(tmp_path):
    contents = read_contents(write_study(tmp_path / "s", [make_record("ptq", "w4a4", ptq=STEPS[:1])]))
    text = page(contents, rows_of(contents))
    assert "equalize(sweeps=3)" in text
    assert "No trial of this study has bits allocated within a budget" in text and "has post-training" not in text
