"""The summary as a table: in the terminal, as Markdown and as CSV."""

import csv
import io
import re

import numpy as np
import pytest
from records import make_record
from rich.console import Console

from qat.lab.report.pareto import points
from qat.lab.report.summary import summarize
from qat.lab.report.table import csv_text, markdown, rich_table
from qat.tasks.metric import Metric

SEEDS = (0, 1, 2)
PSNR = (Metric("psnr_db"),)
TOLD = re.compile(
    r"(?P<claim>better|worse) than .* by (?P<by>[\d.]+) points|a (?P<word>gain|drop) of (?P<of>[+-][\d.]+)"
)


def rows(seeds=SEEDS, **changes):
    """Four arms: PTQ loses 6 points or so, QAT is as good as the control."""
    arms = [("float", None, 0.90), ("control", None, 0.92), ("ptq", "w4a4", 0.84), ("qat", "w4a4", 0.92)]
    records = [
        make_record(arm, recipe, seed, score + 0.01 * seed + (0.001 * seed**2 if arm == "ptq" else 0), **changes)
        for arm, recipe, score in arms
        for seed in seeds
    ]
    return summarize(records)


def terminal(shown, width=100):
    """The table's lines in a terminal of that width."""
    out = io.StringIO()
    Console(file=out, width=width).print(rich_table(shown, "a study"))
    return out.getvalue().splitlines()


def lines(shown):
    """The CSV file's lines as dicts."""
    return list(csv.DictReader(io.StringIO(csv_text(shown))))


def test_the_terminal_shows_every_arm_on_one_line_of_100_characters():
    timings = {"seconds": 1.0, "latency_ms": 2.0, "float_latency_ms": 5.0}
    for shown in (rows(range(4)), rows(range(4), timings=timings)):
        found = terminal(shown)
        for row in shown:
            assert sum(line.split()[:2] == [row.arm, row.recipe or "4"] for line in found) == 1
        assert any("▼ +5.65 ± 0.64" in line and "▲ " not in line and "x" in line for line in found)
        assert any("▲ +7.65 ± 0.64" in line for line in found)


def test_few_seeds_are_shown_by_their_values_and_no_interval():
    found = terminal(rows())
    at = next(i for i, line in enumerate(found) if line.split()[:2] == ["ptq", "w4a4"])
    assert "▼ +5.83" in found[at] and "±" not in found[at]
    assert "84.0 85.1 86.4" in found[at + 1] and "+6.0 +5.9 +5.6" in found[at + 1]
    text = markdown(rows(), "s")
    assert "| 85.17 (84.00, 85.10, 86.40) | ▼ +5.83 (+6.00, +5.90, +5.60) |" in text
    assert "seed by seed 6.00, 5.90, 5.60" in text
    assert lines(rows())[2]["score_by_seed"].split()[0] == "84.0"


def test_no_interval_leaves_the_metric_s_range():
    records = [make_record(seed=seed, score=score) for seed, score in enumerate((0.999, 0.2, 0.95, 0.9))]
    shown = summarize(records)
    assert "| 76.22 (16.23 to 100.00) |" in markdown(shown, "s")
    assert (lines(shown)[0]["score_high"], points(shown)[0].high) == ("100.0", 100.0)


def test_differences_have_one_sign_in_table_sentence_and_csv():
    recipes = {"w8a8": (0.0, -0.002), "w4a4": (0.2, 0.1), "w3a3": (0.1, 0.15), "w2a2": (0.1, 0.101)}
    rng, arms = np.random.default_rng(0), {("float", None): 0.0, ("control", None): 0.0}
    for recipe, (ptq, qat) in recipes.items():
        arms |= {("ptq", recipe): ptq, ("qat", recipe): qat}
    records = [
        make_record(arm, recipe, seed, 0.9 - loss + 0.004 * rng.normal())
        for (arm, recipe), loss in arms.items()
        for seed in range(5)
    ]
    columns = {"float": "drop_from_float", "control": "drop_from_control", "ptq": "gain_over_ptq"}
    shown = summarize(records)
    words, signs = set(), set()
    for row, line in zip(shown, lines(shown), strict=True):
        for baseline, verdict in row.verdicts.items():
            told, number = TOLD.search(verdict.text), float(line[columns[baseline]])
            assert told is not None
            word = columns[baseline].split("_")[0]
            if told["word"]:
                assert (told["word"], told["of"]) == (word, f"{number:+.2f}")
            else:
                assert (told["claim"] == "worse") == ((number > 0) == (word == "drop"))
                assert told["by"] == f"{abs(number):.2f}"
            assert f" {number:+.2f} ± " in markdown([row], "s").split("Means")[0]
            words.add(told["word"] or told["claim"])
            signs.add((word, number > 0))
    assert words == {"gain", "drop", "better", "worse"} and len(signs) == 4


def test_marks_are_explained_with_the_margin():
    text = " ".join(" ".join(terminal(rows())).split())
    assert "▲ better, ▼ worse, = equivalent within 0.3 points, ≡ the same in every seed, ? undecided." in text
    without = [row for row in rows() if row.arm != "qat"]
    assert "▲ better, ▼ worse, = equivalent within 0.3 points, ? undecided." in markdown(without, "s")
    alone = " ".join(terminal([row for row in rows() if row.arm == "float"]))
    assert "▲" not in alone


def test_columns_that_would_be_empty_are_left_out():
    alone = markdown([row for row in rows() if row.arm == "float"], "s")
    assert "| arm | n | accuracy, % | size, kB | smaller |" in alone
    assert "drop" not in alone.split("Means")[0]
    assert "latency, ms | faster" in markdown(rows(timings={"latency_ms": 2.0, "float_latency_ms": 5.0}), "s")


def test_markdown_ends_in_the_verdicts_in_words():
    text = markdown(rows(), "a study")
    assert text.startswith("# a study\n\n| arm | recipe | n | accuracy, % |")
    assert text.count("| ptq | w4a4 | 3 | 85.17 (84.00, 85.10, 86.40) | ") == 1
    verdicts = text.split("## Verdicts\n\n")[1].splitlines()
    assert [verdict.split(" over ")[0] for verdict in verdicts] == [
        "- PTQ w4a4 is worse than float by 5.83 points",
        "- QAT w4a4 scores the same as control in each of 3 seeds. Whether it does in other seeds is not shown.",
        "- QAT w4a4 is better than PTQ w4a4 by 7.83 points",
    ]


def test_names_from_configs_are_text_and_not_markdown():
    labels = {"arm": "<b>|`x`|*y*\n[z](w)"}
    shown = summarize([make_record(variant=variant, labels=labels) for variant in "ab"])
    table = [line for line in markdown(shown, "<script>|").splitlines() if line.startswith("| ")]
    assert all(line.count("|") - line.count("\\|") == 7 for line in table)
    assert "| \\<b>\\|\\`x\\`\\|\\*y\\* \\[z](w) |" in table[2]
    assert markdown(shown, "<script>").startswith("# \\<script>\n")


def test_names_from_configs_are_text_in_the_terminal():
    shown = summarize([make_record(variant=variant, labels={"arm": "[red]x[/red]"}) for variant in "ab"])
    assert any("[red]x[/red]" in line for line in terminal(shown))


def test_csv_holds_unrounded_numbers_and_the_verdicts():
    found = {line["arm"]: line for line in lines(rows())}
    assert [found[arm]["n"] for arm in found] == ["3"] * 4
    assert float(found["ptq"]["score"]) == pytest.approx(100 * (0.84 + 0.01 + 0.005 / 3))
    assert float(found["ptq"]["drop_from_float_low"]) < float(found["ptq"]["drop_from_float"])
    assert (found["ptq"]["against_float_kind"], found["ptq"]["against_float_covers"]) == ("worse", "seeds")
    assert 0 < float(found["ptq"]["against_float_p"]) < 0.05
    assert (found["qat"]["against_ptq_kind"], found["qat"]["against_ptq_pairs"]) == ("better", "3")
    assert found["qat"]["against_ptq_text"].startswith("QAT w4a4 is better than PTQ w4a4 by 7.83 points")
    assert {found["float"][name] for name in found["float"] if name.startswith("against")} == {""}
    assert (found["float"]["gain_over_ptq"], found["float"]["latency_ms"]) == ("", "")


def test_fewer_pairs_and_missing_scores_are_told():
    records = [make_record(arm, recipe, seed) for arm, recipe in (("float", None), ("ptq", "w8a8")) for seed in SEEDS]
    without_float = [record for record in records if (record.arm, record.seed) != ("float", 2)]
    assert "(n=2) |" in markdown(summarize(without_float), "s")
    diverged = [record.model_copy(update={"metrics": {}}) if record.seed == 2 else record for record in records]
    assert "| ptq | w8a8 | 2 of 3 |" in markdown(summarize(diverged), "s")
    none = summarize([record.model_copy(update={"metrics": {}}) for record in records])
    assert "| ptq | w8a8 | 0 of 3 | none |" in markdown(none, "s")
    assert lines(none)[0]["score"] == ""


def test_several_metrics_have_a_column_of_their_names():
    other = [make_record(seed=seed, variant="b", task_metrics=PSNR, metrics={"psnr_db": 31.5}) for seed in SEEDS]
    text = markdown(summarize([make_record(), *other]), "s")
    assert "| trial | arm | metric | n | score |" in text
    assert "| float | float | psnr_db | 3 | 31.5 ± 0 |" in text
    assert "| float | float | accuracy, % | 1 | 90.00 |" in text


def test_no_rows_are_an_empty_table():
    assert rich_table([], "s").row_count == 0
    assert csv_text([]) == "\n"
    assert markdown([], "s").startswith("# s\n")
