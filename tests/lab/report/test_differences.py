"""What differs between two arms, and how much of a result each axis of a study explains."""

import base64
import gzip
import json
import re

import numpy as np
import pytest
from browser import tab
from pages import written
from records import make_record, write_study

from qat.lab.report.axes import axes, importance, settings
from qat.lab.report.contents import read_contents
from qat.lab.report.html.differences import facts
from qat.lab.report.write import rows_of


def grid(effect, noise=0.001):
    """Trials over three axes of which the first alone changes the result, by `effect` a step."""
    rng = np.random.default_rng(0)
    return [
        make_record(
            "float", None, seed, 0.8 + effect * i + noise * rng.normal(), variant=f"{i}{j}{k}",
            labels={"width": f"width {2**i}", "rate": f"rate {10.0**-j:g}", "kind": "ab"[k], "seed": str(seed)},
        )
        for i in range(3) for j in range(3) for k in range(2) for seed in range(2)
    ]  # fmt: skip


def test_an_axis_that_makes_the_result_explains_it_and_the_others_do_not():
    found = axes(grid(0.02))
    assert found[0].name == "width" and (found[0].importance or 0) > 0.95
    assert all((one.importance or 0) < 0.05 for one in found[1:])


def test_noise_is_explained_by_no_axis_on_average():
    shares = [importance(grid(0.0), name) or 0.0 for name in ("width", "rate", "kind")]
    assert max(shares) < 0.25


def test_numbers_stand_by_size_on_a_logarithmic_axis_where_they_span_one_and_words_as_they_came():
    records = grid(0.02)
    by_name = {one.name: one for one in axes(records)}
    assert by_name["rate"].values == ("rate 0.01", "rate 0.1", "rate 1")
    assert by_name["rate"].places == pytest.approx((0.0, 0.5, 1.0))
    assert by_name["width"].places == pytest.approx((0.0, 1 / 3, 1.0))
    assert by_name["kind"].places == (0.0, 1.0)
    assert settings(records[0], axes(records))[0] == 0.0


def test_fewer_than_three_axes_and_results_without_a_spread_are_no_picture():
    assert axes([make_record(seed=seed) for seed in range(3)]) == []
    assert importance([make_record(seed=seed) for seed in range(3)], "arm") is None


def test_facts_hold_only_what_differs(tmp_path):
    records = [make_record("float", None, 0), make_record("qat", "w4a4", 0), make_record("qat", "w4a4", 1)]
    contents = read_contents(write_study(tmp_path / "s", records))
    found = {one["name"]: one for one in facts(contents)["facts"]}
    assert found["config.arm"]["values"] == ["float", "qat"] and found["config.arm"]["at"] == [0, 1, 1]
    assert found["config.finetune.steps"]["at"] == [None, 0, 0]
    assert "config.model" not in found and "config.train.steps" not in found


def test_two_sides_are_compared_on_the_page_and_the_axes_drawn(browser, tmp_path):
    records = grid(0.02)
    root = write_study(tmp_path / "s", records, name="<img src=x>")
    page = written(root)
    packed = re.search(r'id="facts">([^<]*)<', page.text)
    assert packed is not None and json.loads(gzip.decompress(base64.b64decode(packed[1])))["known"] == [True] * 36
    names = [row.name for row in rows_of(read_contents(root))]
    with tab(browser) as opened:
        opened.go(page.address)
        opened.run("['axes', 'differences'].forEach(see)")
        opened.until("find('axes').matches('.js-plotly-plot')")
        opened.run(f"find('right').value = {json.dumps(names[0])}; find('right').dispatchEvent(new Event('change'))")
        opened.until("find('differences-note').textContent.startsWith('Nothing differs')")
        opened.run("find('left').value = names[0]; find('right').value = names[1]; redraw('differences')")
        opened.until("find('differences').querySelectorAll('tbody tr').length === 2")
        lines = "[...find('differences').querySelectorAll('tbody tr')]"
        shown = opened.run(f"{lines}.map((row) => [...row.cells].map((one) => one.textContent))")
        assert shown == [["config.seed", "0", "1"], ["config.train.learning_rate", "0.1", "0.2"]]
        opened.run("find('left').value = 'no such'; redraw('differences')")
        opened.until("find('differences-note').textContent.startsWith('Name two')")
        assert opened.problems() == []
