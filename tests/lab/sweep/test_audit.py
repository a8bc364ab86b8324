"""An audit of calibration: scored by draw, gone on with where it was stopped, told in a sentence and on the page."""

from dataclasses import replace

import numpy as np
import pytest
from run_folders import make_runs
from studies import BASE
from typer.testing import CliRunner

from qat.core.tables import as_text
from qat.lab.cli import app
from qat.lab.experiment.config import override
from qat.lab.report.contents import read_contents
from qat.lab.report.html.audits import audits, read_audits
from qat.lab.report.write import rows_of, write_report
from qat.lab.runs.audits import Found, read_audit, sentence, write_audit
from qat.lab.runs.finished import faults_in
from qat.lab.sweep import audit as audit_module
from qat.lab.sweep.audit import Extent, audit_calibration, audit_table, noise_like
from qat.ptq.audit import plan_draws
from qat.tasks.metric import Metric, fraction

CONFIG = override(
    BASE, {"model": "cnn(width=4)", "arm": "ptq", "recipe": "w8a4", "train.steps": 60, "train.learning_rate": 1e-2}
)
EXTENT = Extent(draws=2, most=4)


def found(metric=None, spread=0.0, **values):
    """An audit of 8 samples whose scores rise with them and differ by draw."""
    plan = plan_draws(8, draws=2, others=("noise",))
    scores = {draw.key: 0.9 - 0.1 / draw.samples - spread * draw.number for draw in plan}
    return Found("code", metric or fraction("accuracy"), 269, 0.92, plan, {**scores, **values})


def test_an_audit_reads_back_and_a_damaged_one_is_named(tmp_path):
    assert read_audit(tmp_path) is None
    write_audit(tmp_path, found())
    assert read_audit(tmp_path) == found()
    (tmp_path / "audit.json").write_text('{"identity": 1')
    with pytest.raises(ValueError, match=r"audit.json' is damaged .* Remove it, and run `qat audit` again"):
        read_audit(tmp_path)


def test_the_sentence_says_how_many_samples_are_needed_and_by_what():
    assert sentence(found()).startswith(
        "8 samples are enough: from there on the worst of 2 draws is at most 0.3 points"
    )
    assert "the mean of 8 (88.75 %)" in sentence(found())
    loose = replace(fraction("accuracy"), margin=20.0)
    assert sentence(found(loose)).startswith("1 sample is enough")
    assert sentence(found(spread=0.02)) == (
        "For 0.3 points no number of samples up to 8 is shown to be enough on 269 validation examples: even there the "
        "worst of 2 draws is 1 points worse than the mean. From 8 on draws are no worse than that."
    )
    assert "at most 0.00888 worse" in sentence(found(Metric("score")))  # a hundredth of 0.8875


def test_the_table_has_a_line_for_each_number_of_samples_and_for_what_is_no_data():
    text = as_text(audit_table(found(spread=0.01)))
    for line in ("training data", "two disjoint subsets", "noise"):
        assert line in text
    assert "79.50" in text and "79.00" in text  # mean and worst draw of one sample
    assert "The float model has 92.00 %" in text


def test_an_audit_beside_a_record_is_shown_on_the_page_and_damages_nothing(tmp_path):
    make_runs(tmp_path, 4, seeds=1, points=5)
    contents = read_contents(tmp_path)
    trial = next(iter(contents.records))
    write_audit(contents.folder(trial), found())
    assert faults_in(contents.folder(trial)) == []
    unfinished = next(one for one in contents.records if one != trial)
    write_audit(contents.folder(unfinished), replace(found(), values={}))
    shown = read_audits(contents.folders)
    assert list(shown) == [trial]
    page = str(audits(shown))
    assert sentence(found()) in page and trial in page
    write_report(contents, rows_of(contents))
    assert 'id="audits"' in (tmp_path / "report" / "index.html").read_text()


CONFIG_FILE = """
from qat.lab.experiment.config import ExperimentConfig
from qat.train import TrainConfig


def get_config():
    return ExperimentConfig(name="one", model="cnn", data="digits", train=TrainConfig(steps=5))
"""


def test_the_command_prints_the_table_and_the_folder(tmp_path, monkeypatch):
    file = tmp_path / "one.py"
    file.write_text(CONFIG_FILE)
    refused = CliRunner().invoke(app, ["audit", str(file), "--runs", str(tmp_path / "runs")])
    assert refused.exit_code == 2 and "an audit needs a recipe to calibrate, but arm 'float' has none" in refused.stderr
    assert not (tmp_path / "runs").exists()
    seen = []
    monkeypatch.setattr(audit_module, "audit_calibration", lambda *args, **_: seen.append(args) or found())
    more = ["--set", "arm=ptq", "--set", "recipe=w8a8", "--draws", "3", "--most", "64", "--other", "mnist"]
    done = CliRunner().invoke(app, ["audit", str(file), "--runs", str(tmp_path / "runs"), *more])
    assert done.exit_code == 0
    ((config, root, folder, extent),) = seen
    assert (config.recipe, root, extent) == ("w8a8", tmp_path / "runs", Extent(3, 64, "mnist"))
    assert "calibration audit: accuracy, % of validation data" in done.stdout
    assert done.stdout.splitlines()[-1] == str(folder) and folder.parent == root / "trials"


def test_noise_has_the_mean_and_the_deviation_of_the_values_or_lies_between_their_ends():
    rng = np.random.default_rng(0)
    values = rng.normal(3, 2, (100, 50)).astype(np.float32)
    noise = noise_like(values, rng)
    assert (noise.shape, noise.dtype) == (values.shape, values.dtype)
    assert (noise.mean(), noise.std()) == (pytest.approx(3, abs=0.1), pytest.approx(2, abs=0.1))
    tokens = noise_like(np.array([[3, 9]] * 50, np.int32), rng)
    assert (tokens.min(), tokens.max(), tokens.dtype) == (3, 9, np.int32)


@pytest.mark.slow
def test_a_model_is_audited_once_and_gone_on_with_where_it_was_stopped(tmp_path, monkeypatch):
    def stop(done, of):
        if done == 4:
            raise KeyboardInterrupt

    folder = tmp_path / "trials" / "one"
    with pytest.raises(KeyboardInterrupt):
        audit_calibration(CONFIG, tmp_path, folder, EXTENT, on_draw=stop)
    part = read_audit(folder)
    assert part is not None and len(part.values) == 4 and not part.is_whole
    whole = audit_calibration(CONFIG, tmp_path, folder, EXTENT)
    assert whole.is_whole and {key: whole.values[key] for key in part.values} == part.values
    assert all(0 < value <= 1 for value in whole.values.values())
    assert whole.audit.others["noise"].mean < whole.audit.points[-1].mean, "ranges of noise fit the data worse"
    assert whole.float_value >= whole.audit.points[-1].mean - 0.05
    monkeypatch.setattr(audit_module._Score, "__call__", lambda *_: pytest.fail("scored again"))
    assert audit_calibration(CONFIG, tmp_path, folder, EXTENT) == whole


def test_what_cannot_be_audited_is_refused_before_any_work(tmp_path):
    with pytest.raises(ValueError, match="an audit needs a recipe to calibrate, but arm 'float' has none"):
        audit_calibration(BASE, tmp_path, tmp_path, EXTENT)
    other = replace(EXTENT, other="boards(images=4, held_out=0.5)")
    with pytest.raises(ValueError, match="`other` must have inputs like those of 'digits'"):
        audit_calibration(CONFIG, tmp_path, tmp_path, other)
    assert not any(tmp_path.iterdir())
