"""Weights & Biases: a run a trial, offline unless the user is logged in."""

import math
import netrc
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from qat.lab.experiment.config import digest
from qat.lab.runs.record import Record
from qat.lab.sinks.sink import Origin, Row, Run, Sink, final_numbers, flat_config, register, require
from qat.tasks.metric import Metric, find_metric

LONGEST_TAG, LONGEST_NAME = 64, 128
LOSS = Metric("loss", "lower")
BEST = {"higher": "max", "lower": "min"}
SERVER = "https://api.wandb.ai"


@register
def wandb(project: str | None = None, entity: str | None = None, mode: str | None = None, timeout: float = 60) -> Sink:
    """Runs in `project`, the study's name by default, grouped by study and arm, tagged with the trial's labels.

    A trial that is continued goes on in its own run. `mode` is `online`, `offline` or `disabled`; by default what
    WANDB_MODE says, else online where an API key is known (WANDB_API_KEY or netrc) and offline elsewhere. Offline runs
    wait in `RUNS/wandb/` (or WANDB_DIR) for `wandb sync`. To connect, and to upload at the end, a run takes at most
    `timeout` seconds each.
    """
    require("wandb", "wandb")
    chosen = mode or os.environ.get("WANDB_MODE") or ("online" if logged_in() else "offline")
    if chosen not in ("online", "offline", "disabled"):
        raise ValueError(f"`mode` of sink wandb must be 'online', 'offline' or 'disabled', got {chosen!r}.")

    def start(origin: Origin) -> Run:
        return _described(_open(origin, project, entity, chosen, timeout), origin.metrics)

    return start


def logged_in() -> bool:
    """Whether this user has an API key for the server that WANDB_BASE_URL names."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL") or SERVER).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC") or Path.home() / ".netrc").authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def run_id(origin: Origin) -> str:
    """The id of a trial's run: the same whenever and wherever the trial goes on, another once its key has changed."""
    return digest(origin.study, origin.trial, origin.key)


def _open(origin: Origin, project: str | None, entity: str | None, mode: Any, timeout: float) -> Any:
    import wandb as library

    own_folder = "WANDB_DIR" not in os.environ
    quiet = {"silent": True, "console": "off", "save_code": False}
    patience = {"init_timeout": timeout, "finish_timeout": timeout, "finish_timeout_raises": True}
    return library.init(
        project=project or re.sub(r"[/\\#?%:]", "-", origin.study)[:LONGEST_NAME],
        entity=entity,
        id=run_id(origin),
        name=origin.trial,
        group=f"{origin.study} {origin.config.arm}"[:LONGEST_NAME],
        job_type=origin.config.arm,
        tags=list(dict.fromkeys(label[:LONGEST_TAG] for label in origin.labels.values() if label)),
        config={**flat_config(origin), "labels": dict(origin.labels)},
        mode=mode,
        resume="allow",
        reinit="create_new",
        dir=origin.root if own_folder else None,
        settings=library.Settings(**quiet, **patience),
    )


def _described(run: Any, known_metrics: Sequence[Metric]) -> Run:
    """Wrap an open run of wandb as the run of a sink; of a curve whose direction is known its best value counts."""
    known: dict[str, Any] = dict(run.summary) if run.resumed else {}  # what the server has is not sent again
    seen: set[str] = set()

    def metrics(stage: str, step: int, values: Mapping[str, float]) -> None:
        if stage not in seen:
            seen.add(stage)
            run.define_metric(f"{stage}/step", hidden=True)
            run.define_metric(f"{stage}/*", step_metric=f"{stage}/step")
            for name, best in _best(values, known_metrics).items():
                run.define_metric(f"{stage}/{name}", step_metric=f"{stage}/step", summary=best)
        if step > known.get(f"{stage}/step", -math.inf):
            run.log({f"{stage}/step": step, **{f"{stage}/{name}": value for name, value in values.items()}})

    def finish(record: Record, layers: Sequence[Row]) -> None:
        run.summary.update(final_numbers(record))
        if layers:
            run.log({"layers": _table(layers)})
        run.finish()

    def failed(error: str) -> None:
        run.summary.update({"error": error})
        run.finish(exit_code=1)

    return Run(metrics, finish, failed)


def _best(names: Iterable[str], metrics: Sequence[Metric]) -> dict[str, str]:
    """The summary of each curve that has a direction: `min` or `max`."""
    found = {name: find_metric((*metrics, LOSS), name) for name in names}
    return {name: BEST[one.better] for name, one in found.items() if one is not None and one.better is not None}


def _table(rows: Sequence[Row]) -> Any:
    import wandb as library

    columns: list[Any] = list(rows[0])
    return library.Table(columns=columns, data=[[row[name] for name in columns] for row in rows])
