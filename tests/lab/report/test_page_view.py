"""The page as a place to work in: a pinned baseline, a link that keeps the view, tables and figures to take along."""

import csv
import io
import json

import pytest
from browser import CHROMIUM, tab
from pages import written
from run_folders import make_runs

from qat.lab.report.contents import read_contents
from qat.lab.report.pairing import Baselines, groups, main_metric
from qat.lab.stats import paired_difference

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

LABEL = "<img src=x onerror='window.hit = 1'> | 5 % & _x"


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    """40 trials: four seeds of ten arms whose names hold markup."""
    root = tmp_path_factory.mktemp("four")
    make_runs(root, 40, seeds=4, sites=1, points=2, variants=[LABEL])
    return written(root)


def pin(opened, name):
    opened.run(f"find('pin').value = {json.dumps(name)}; find('pin').dispatchEvent(new Event('change'))")


def test_a_pinned_arm_turns_columns_into_the_differences_that_the_report_computes(browser, four):
    records = list(read_contents(four.contents.root).records.values())
    arms, baselines = {group.name: group for group in groups(records)}, Baselines(records)
    with tab(browser) as opened:
        opened.go(four.address)
        pin(opened, "PTQ w4a4")
        found = opened.run(
            """(() => {
              const k = columns.findIndex((column) => column.name === "accuracy, %"), base = pinned();
              return Object.fromEntries(data.groups.map((group, arm) => [group.label, difference(arm, base, k)]));
            })()"""
        )
        for name in ("float", "control", "QAT w4a4", "PTQ w2a4"):
            pairs = baselines.between(arms[name], arms["PTQ w4a4"], None)
            expected = paired_difference(*zip(*((main_metric(a), main_metric(b)) for a, b in pairs), strict=True))
            assert found[name]["n"] == 4
            assert found[name]["mean"] == pytest.approx(expected.mean, abs=1e-3)
            assert found[name]["half"] == pytest.approx(expected.half_width, abs=1e-3)
        assert opened.run("[find('arms').hidden, find('arms-pinned').rows.length]") == [True, 11]
        assert opened.run("document.querySelectorAll('#arms-pinned td.worse').length") > 0
        column = opened.run("columns.findIndex((column) => column.name === 'accuracy, %')")
        texts = opened.run(f"[...body.rows].map((row) => row.cells[{column + 1}].textContent)")
        assert texts[16] == "0.00" or texts[16][0] in "+−"
        pin(opened, opened.run("NO_PIN"))
        assert opened.run("[find('arms').hidden, find('arms-pinned')]") == [False, None]
        assert opened.problems() == []


@pytest.mark.slow
def test_a_link_shows_the_same_view_and_a_broken_one_harms_nothing(browser, four):
    with tab(browser) as opened:
        opened.go(four.address)
        pin(opened, "QAT w8a8")
        opened.run("find('filter').value = 'ptq'; find('filter').dispatchEvent(new Event('input'))")
        opened.run("document.querySelectorAll('#trials-box th button')[0].click(); choose([0, 1], false)")
        opened.run("document.querySelector('nav a[href=\"#trials\"]').click()")
        view = "JSON.stringify([state.pin, state.filter, state.sort, [...chosen], find('count').textContent])"
        link, before = opened.run("location.href"), opened.run(view)
    assert "at=trials" in link and "filter=ptq" in link
    with tab(browser) as opened:
        opened.go(link)
        assert opened.run(view) == before
        assert opened.run("scrollY") > 0
        assert opened.problems() == []
    attack = "#pin=%3Cimg%20src=x%20onerror=hit=1%3E&sort=[1,2]&chosen=[{}]&picks=3&filter=%3Cb%3E&__proto__=x&sort={"
    with tab(browser) as opened:
        opened.go(four.address + attack)
        shown = opened.run("[window.hit === undefined, find('pin').value, state.sort === undefined, state.filter]")
        assert shown == [True, opened.run("NO_PIN"), True, "<b>"]
        assert opened.run("find('count').textContent") == "0 of 40 trials"
        assert opened.problems() == []


@pytest.mark.slow
def test_tables_go_along_as_text_and_figures_as_files(browser, four):
    with tab(browser) as opened:
        opened.go(four.address)
        assert opened.run(
            "[...document.querySelectorAll('.box[aria-label]')].every((box) => box.nextSibling.matches('.copy'))"
        )
        made = opened.run(
            "Object.fromEntries(Object.keys(FORMATS).map((name) => [name, FORMATS[name](...trialsText())]))"
        )
        lines = list(csv.reader(io.StringIO(made["CSV"])))
        assert len(lines) == 41 and {len(line) for line in lines} == {len(lines[0])}
        assert any(LABEL in line for line in lines[1:])
        assert all(text.count(" & ") >= len(lines[0]) - 1 for text in made["LaTeX"].splitlines()[2:3])
        assert "5 \\% \\& \\_x" in made["LaTeX"] and "\\<img src=x onerror='window.hit = 1'> \\| 5" in made["Markdown"]
        opened.until("find('forest-0').matches('.js-plotly-plot')")
        svg = opened.run("Plotly.toImage(find('forest-0'), { format: 'svg', width: 600, height: 300 })")
        png = opened.run("Plotly.toImage(find('forest-0'), { format: 'png', width: 600, height: 300 })")
        assert svg.startswith("data:image/svg+xml") and png.startswith("data:image/png;base64,iVBOR")
        assert opened.problems() == []
