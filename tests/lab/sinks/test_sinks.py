"""Sinks: what they are told is what the records hold, and no trial notices when one of them breaks."""

import pytest
from sinkfiles import POINTS, events, record

from qat.lab import sinks
from qat.lab.runs.layers import operands_in
from qat.lab.runs.metrics import points
from qat.lab.sinks import Run


def noted():
    """A sink that keeps what it is told, and the list that it keeps it in."""
    told = []
    run = Run(
        lambda *point: told.append(point),
        lambda record, layers: told.append(("finish", record.trial, len(layers))),
        lambda error: told.append(("failed", error)),
    )
    return told, lambda origin: run


@pytest.fixture
def registered(monkeypatch):
    """Registers sinks for one test: `registered(name, sink)`."""
    factories = dict(sinks.sinks._factories)
    monkeypatch.setattr(sinks.sinks, "_factories", factories)
    return lambda name, sink: factories.__setitem__(name, lambda: sink)


def test_the_sinks_are_known_by_name_and_a_typo_is_refused_with_a_hint():
    assert set(sinks.names()) >= {"tensorboard", "wandb"}
    with pytest.raises(ValueError, match=r"Unknown sink 'wandbb'. Known: .*Did you mean 'wandb'"):
        sinks.build("wandbb")


@pytest.mark.parametrize(("name", "package"), [("wandb", "wandb"), ("tensorboard", "tensorboardX")])
def test_a_sink_whose_package_is_missing_says_how_to_install_it(name, package, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda found: None if found == package else object())
    with pytest.raises(ValueError, match=rf"needs the package {package}.*pip install 'jax-qat\[{name}\]'"):
        sinks.build(name)


def test_each_point_is_told_once_and_in_order_live_or_from_the_folder(origin, folder, registered):
    told, sink = noted()
    registered("noted", sink)
    run = sinks.together(["noted"], pytest.fail)(origin)
    run.metrics(*POINTS[0])
    run.metrics(*POINTS[1])
    run.metrics(*POINTS[0])
    run.metrics("qat", 1, {"loss": 2.0})
    run.finish(record(), folder)
    assert told == [*POINTS[:2], ("qat", 1, {"loss": 2.0}), *POINTS[2:], ("finish", "base-ptq-1234", 1)]


def test_a_trial_that_goes_on_tells_its_earlier_points_first(origin, folder, registered):
    told, sink = noted()
    registered("noted", sink)
    run = sinks.together(["noted"], pytest.fail)(origin)
    run.earlier(folder)
    run.metrics("float", 3, {"loss": 9.0})
    run.metrics("float", 5, {"loss": 0.1})
    run.failed("the loss is not finite")
    assert told == [*POINTS, ("float", 5, {"loss": 0.1}), ("failed", "the loss is not finite")]


@pytest.mark.parametrize("moment", ["start", "metrics", "finish", "failed"])
def test_a_sink_that_breaks_is_told_of_once_and_no_other_notices(moment, origin, folder, registered):
    told, sink = noted()

    def broken(when):
        def action(*_):
            if when == moment:
                raise ConnectionError("quota exceeded\nlong explanation")

        return action

    def breaking(origin):
        broken("start")()
        return Run(broken("metrics"), broken("finish"), broken("failed"))

    registered("noted", sink)
    registered("breaking", breaking)
    warnings = []
    start = sinks.together(["breaking", "noted"], warnings.append)
    for _ in range(2):
        run = start(origin)
        for point in POINTS:
            run.metrics(*point)
        run.finish(record(), folder)
        run.failed("late")
    line = "sink 'breaking' stopped: ConnectionError: quota exceeded. Trials and their records go on without it."
    assert warnings == [line]
    assert told == 2 * [*POINTS, ("finish", "base-ptq-1234", 1), ("failed", "late")]


def test_a_sink_that_cannot_be_built_does_not_stop_a_trial(origin, folder):
    warnings = []
    run = sinks.together(["wandb(mode='onlin')", "no_such"], warnings.append)(origin)
    run.metrics(*POINTS[0])
    run.finish(record(), folder)
    assert len(warnings) == 2
    assert "`mode` of sink wandb must be 'online', 'offline' or 'disabled', got 'onlin'" in warnings[0]


def test_layers_are_a_row_for_each_operand(folder):
    (row,) = operands_in(folder)
    assert (row["id"], row["side"], row["bits"], row["sqnr_db"]) == ("stem:conv:0", "rhs", 8, 41.5)
    assert "histogram" not in row


def test_a_folder_without_metrics_or_layers_has_none(tmp_path):
    assert list(points(tmp_path)) == []
    assert operands_in(tmp_path) == []


def test_tensorboard_holds_the_scalars_of_every_stage_and_the_settings_with_the_outcome(origin, folder):
    pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    run = sinks.together(["tensorboard"], pytest.fail)(origin)
    run.metrics(*POINTS[0])
    run.finish(record(), folder)
    scalars, tags = events(origin.root, origin.trial)
    shown = {(tag, step): value for tag, step, value in scalars}
    points = {(f"{stage}/{name}", step): value for stage, step, point in POINTS for name, value in point.items()}
    outcome = {("test/accuracy", 0): 0.9, ("size_bytes", 0): 400, ("seconds", 0): 1.5}
    assert len(scalars) == len(shown)
    assert shown == pytest.approx({**points, **outcome})
    assert {"_hparams_/session_start_info", "layers/text_summary"} <= set(tags)


def test_a_trial_that_was_stopped_leaves_one_tensorboard_file_with_every_point_once(origin, folder):
    pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    stopped = sinks.together(["tensorboard"], pytest.fail)(origin)
    stopped.metrics(*POINTS[0])
    stopped.failed("stopped")
    again = sinks.together(["tensorboard"], pytest.fail)(origin)
    again.earlier(folder)
    again.metrics(*POINTS[3])
    again.finish(record(), folder)
    scalars, _ = events(origin.root, origin.trial)
    assert [step for tag, step, _ in scalars if tag == "float/loss"] == [1, 2, 3, 4]


def test_a_failed_trial_says_so_in_tensorboard(origin):
    pytest.importorskip("tensorboardX", reason="the extra tensorboard is not installed")
    sinks.together(["tensorboard"], pytest.fail)(origin).failed("the loss is not finite")
    assert "failed/text_summary" in events(origin.root, origin.trial)[1]
