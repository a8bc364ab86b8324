"""The sink wandb, on real offline runs: what they hold, and what happens where it cannot work."""

import json
from dataclasses import replace

import pytest
from sinkfiles import LABELS, POINTS, offline_runs, record, values

from qat.lab import sinks
from qat.lab.sinks.wandb import logged_in, run_id
from qat.tasks.metric import Metric


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A user who is not logged in to wandb and has no settings of their own."""
    for name in ("WANDB_MODE", "WANDB_DIR", "WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))


@pytest.fixture(scope="module")
def service():
    """wandb's own process, stopped after the last test that used it."""
    wandb = pytest.importorskip("wandb", reason="the extra wandb is not installed")
    yield wandb
    wandb.teardown()


def test_an_offline_wandb_run_holds_curves_outcome_layers_group_and_tags(origin, folder, alone, service):
    run = sinks.together(["wandb"], pytest.fail)(origin)
    run.metrics(*POINTS[0])
    run.finish(record(), folder)
    (offline,) = offline_runs(origin.root)
    described = offline.run
    assert (described.project, described.run_group, described.job_type) == ("study", "study ptq", "ptq")
    assert (described.display_name, described.run_id) == (origin.trial, run_id(origin))
    assert list(described.tags) == list(LABELS.values())
    settings = values(described.config.update)
    assert (settings["train.steps"], settings["recipe"], settings["key"]) == (10, "w8a8", "k1")
    assert offline.curve == [(step, pytest.approx(point["loss"])) for _, step, point in POINTS]
    assert [offline.summary[name] for name in ("test/accuracy", "size_bytes", "seconds")] == [0.9, 400, 1.5]
    (table,) = offline.files.glob("media/table/*.json")
    content = json.loads(table.read_text())
    assert dict(zip(content["columns"], content["data"][0], strict=True))["sqnr_db"] == 41.5


def test_a_trial_that_was_stopped_goes_on_in_its_own_wandb_run_with_a_whole_curve(origin, folder, alone, service):
    stopped = sinks.together(["wandb"], pytest.fail)(origin)
    stopped.metrics(*POINTS[0])
    stopped.failed("stopped")
    again = sinks.together(["wandb"], pytest.fail)(origin)
    again.finish(record(), folder)
    pieces = offline_runs(origin.root)
    assert sorted([step for step, _ in piece.curve] for piece in pieces) == [[1], [1, 2, 3, 4]]
    assert len({piece.run.run_id for piece in pieces}) == 1


def test_a_failed_trial_is_a_failed_wandb_run_that_says_why(origin, alone, service):
    sinks.together(["wandb(project='mine')"], pytest.fail)(origin).failed("the loss is not finite")
    (offline,) = offline_runs(origin.root)
    assert (offline.run.project, offline.exit_code) == ("mine", 1)
    assert offline.summary["error"] == "the loss is not finite"


def test_wandb_without_a_network_is_one_warning_and_no_delay_of_many_trials(
    origin, folder, alone, service, monkeypatch
):
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    warnings = []
    start = sinks.together(["wandb(timeout=1)"], warnings.append)
    for _ in range(3):
        run = start(origin)
        run.metrics(*POINTS[0])
        run.finish(record(), folder)
    assert len(warnings) == 1 and warnings[0].startswith("sink 'wandb(timeout=1)' stopped: ")


def test_a_run_id_is_the_trials_own_and_changes_with_its_key(origin):
    others = [replace(origin, **change) for change in ({"key": "k2"}, {"trial": "other"}, {"study": "another"})]
    assert len({run_id(one) for one in (origin, *others)}) == 4
    assert run_id(replace(origin, root=origin.root / "elsewhere")) == run_id(origin)


def test_a_user_is_logged_in_by_an_api_key_or_by_netrc_for_that_server(alone, tmp_path, monkeypatch):
    assert not logged_in()
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password secret\n")
    assert logged_in()
    monkeypatch.setenv("WANDB_BASE_URL", "http://wandb.example:8080")
    assert not logged_in()
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert logged_in()
    monkeypatch.delenv("WANDB_API_KEY")
    (tmp_path / "netrc").write_text("no netrc at all {")
    assert not logged_in()


def test_a_switched_off_wandb_leaves_nothing(origin, folder, alone, service, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run = sinks.together(["wandb"], pytest.fail)(origin)
    run.metrics(*POINTS[0])
    run.finish(record(), folder)
    assert list(origin.root.glob("**/*.wandb")) == []


def test_a_curve_counts_by_its_best_value_where_its_direction_is_known(origin, folder, alone, service):
    metrics = (Metric("accuracy"), Metric("rmse", "lower"), Metric("threshold", None))
    run = sinks.together(["wandb"], pytest.fail)(replace(origin, key="of its own", metrics=metrics))
    for step, value in enumerate((0.5, 0.9, 0.7), start=1):
        run.metrics("qat", step, dict.fromkeys(("loss", "accuracy", "rmse", "threshold"), value))
    run.failed("stopped")
    (offline,) = offline_runs(origin.root)
    summary = offline.summary
    best = {name: summary[f"qat/{name}"] for name in ("accuracy", "rmse", "loss", "threshold")}
    assert best == {"accuracy": {"max": 0.9}, "rmse": {"min": 0.5}, "loss": {"min": 0.5}, "threshold": 0.7}
