"""A study's own words, its comparisons as bars, and the seeds that would decide those that are open."""

import json

import numpy as np
import pytest
from browser import tab
from pages import written
from records import make_record, write_study
from run_folders import make_runs

from qat.lab.report.contents import read_contents
from qat.lab.report.deciding import HEADS, line, needed
from qat.lab.report.forest import bars
from qat.lab.report.html.verdicts import answer
from qat.lab.report.summary import summarize
from qat.lab.runs.study_folder import About, open_study, read_study
from qat.lab.stats.power import power_of_difference, power_of_equivalence
from qat.lab.sweep.study import load_study


def noisy(seeds=4, noise=0.004, loss=0.0):
    rng = np.random.default_rng(0)
    return [
        make_record(arm, recipe, seed, 0.9 + noise * rng.normal() - (loss if arm == "ptq" else 0.0))
        for arm, recipe in (("float", None), ("ptq", "w4a4"))
        for seed in range(seeds)
    ]


def test_a_bar_holds_what_the_first_gains_whichever_word_the_verdict_uses():
    rows = summarize(noisy(loss=0.05))
    (bar,) = bars(rows)
    verdict = rows[1].verdicts["float"]
    assert (bar.kind, bar.first, bar.second, bar.asked) == ("worse", "PTQ w4a4", "float", "PTQ against float")
    assert bar.mean == verdict.deciding.difference.mean < 0 and bar.margin == verdict.margin
    assert bar.interval is not None and bar.interval[0] < bar.mean < bar.interval[1]


def test_few_seeds_have_their_values_in_place_of_an_interval():
    (bar,) = bars(summarize(noisy(seeds=3)))
    assert bar.interval is None and len(bar.seeds) == 3


def test_the_seeds_that_are_asked_for_have_the_power_that_is_promised_and_one_fewer_has_not():
    (one,) = needed(summarize(noisy()))
    assert one.sd is not None and one.difference is not None and one.equivalence is not None
    seen = one.verdict.deciding.difference.mean
    assert power_of_difference(one.difference, seen, one.sd) >= 0.8
    assert one.difference == 2 or power_of_difference(one.difference - 1, seen, one.sd) < 0.8
    assert (
        power_of_equivalence(one.equivalence, 0.3, one.sd)
        >= 0.8
        > power_of_equivalence(one.equivalence - 1, 0.3, one.sd)
    )
    assert len(line(one)) == len(HEADS)


def test_two_seeds_say_nothing_of_a_spread():
    (one,) = needed(summarize(noisy(seeds=2)))
    assert one.sd is None and line(one)[2] == "not known"


STUDY = '''
from qat.lab.experiment.config import ExperimentConfig
from qat.train import TrainConfig

QUESTION = "Is <b>w4a4</b> safe?"
HYPOTHESIS = """
    It loses less
    than a point.
"""
NOTES = "First.\\n\\nSecond."
BASE = ExperimentConfig(name="asks", model="cnn", data="digits", train=TrainConfig(steps=1))
AXES = {"seed": [0, 1]}
'''


def test_a_studys_words_stand_above_the_verdicts_and_a_hypothesis_says_whether_it_came_first(tmp_path):
    file = tmp_path / "asks.py"
    file.write_text(STUDY)
    study = load_study(file, {})
    opened = open_study(tmp_path / "runs", study)
    assert opened.about == About("Is <b>w4a4</b> safe?", "It loses less\nthan a point.", "First.\n\nSecond.", 0)
    (opened.trial(study.trials[0].id)).mkdir(parents=True)
    (opened.trial(study.trials[0].id) / "record.json").write_text("{}")
    assert open_study(tmp_path / "runs", study).about.finished == 0
    file.write_text(STUDY.replace("less\n", "more\n"))
    open_study(tmp_path / "runs", load_study(file, {}))
    about = read_study(tmp_path / "runs").about
    assert (about.hypothesis, about.finished) == ("It loses more\nthan a point.", 1)
    told = str(answer(summarize(noisy()), about))
    assert "Is &lt;b&gt;w4a4&lt;/b&gt; safe?" in told and "after 1 trial had finished" in told
    assert told.index("Second.") < told.index("verdicts")


def test_words_that_are_no_text_are_refused(tmp_path):
    file = tmp_path / "asks.py"
    file.write_text(STUDY + "QUESTION = 3\n")
    with pytest.raises(ValueError, match="`QUESTION` must be a text, got 3"):
        load_study(file, {})


def test_the_plot_shows_the_comparisons_that_were_asked_for_in_the_order_that_was(browser, tmp_path):
    root = tmp_path / "runs"
    make_runs(root, 40, seeds=4, sites=1, points=2)
    with tab(browser) as opened:
        opened.go(written(root).address)
        opened.until("find('forest-0').matches('.js-plotly-plot')")
        assert len(opened.run("find('forest-0').layout.yaxis.ticktext")) == 12
        opened.run("find('asked').value = 'PTQ against float'; find('asked').dispatchEvent(new Event('change'))")
        opened.until("find('forest-0').layout.yaxis.ticktext.length === 4")
        names = opened.run("find('forest-0').layout.yaxis.ticktext")
        means = {f"{bar.first} − {bar.second}": bar.mean for bar in bars(_rows(root))}
        assert [means[name] for name in names] == sorted((means[name] for name in names), reverse=True)
        assert opened.problems() == []


def _rows(root):
    from qat.lab.report.write import rows_of

    return rows_of(read_contents(root))


def test_a_study_of_an_earlier_version_has_no_words(tmp_path):
    root = write_study(tmp_path / "study", noisy())
    assert "about" not in json.loads((root / "study.json").read_text())
    assert read_contents(root).about == About()
