"""Description of a study before it runs: its settings, its trials, what they share, and what they will cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from qat.lab.experiment.recipe import short_name
from qat.lab.jobs.job import Job
from qat.lab.runs.study_folder import TRIALS
from qat.lab.sweep.cost import Cost, estimate
from qat.lab.sweep.power import contrast_table, power
from qat.lab.sweep.run import finished, plan
from qat.lab.sweep.study import Study
from qat.recipes.data import recipe_differences
from qat.recipes.recipe import QuantRecipe

MOST = 60  # trials that are listed
MANY = 6  # values of a setting that are listed
SHORT = 6  # digits of a key
REQUIRED = "(no default)"


def show(study: Study, root: Path | None = None, *, measure: bool = False, most: int = MOST) -> Group:
    """Tables to print: every setting, marked where it is not its default; how recipes of rules differ; the trials, at
    most so many of them, with the stages that they start from; the jobs by kind and what those that `root` does not
    hold yet will cost. Last come the declared contrasts with the seeds that they need, and what its seeds can show.

    With `measure` a few steps are run and timed where `root` holds nothing to go by; without, that time is unknown.
    """
    jobs = plan(study)
    probe = None
    if measure:
        from qat.lab.sweep.cost import measure as probe
    done = {job.id for job in jobs if root is not None and finished(root, job)}
    tables = _settings(study), *_recipes(study), _trials(study, jobs, done, most), _costs(estimate(jobs, root, probe))
    said = power(study)
    contrasts = [contrast_table(study, root)] if study.contrasts else []
    return Group(*tables, *contrasts, *([Text(said), Text("")] if said else []))


def _settings(study: Study) -> Table:
    table = _table(f"{study.name}: settings, * where they are not the default")
    for heading in ("setting", "", "value", "default"):
        table.add_column(heading, overflow="fold")
    flat = [_flat(trial.config) for trial in study.trials]
    names = dict.fromkeys(name for values in flat for name in values)
    for name in names:
        found = [values[name] for values in flat if name in values]
        different = list(dict.fromkeys(repr(value) for value, _ in found))
        default = found[0][1]
        changed = different != [repr(default)]
        shown = ", ".join(different[:MANY]) + (f", ... ({len(different)} values)" if len(different) > MANY else "")
        table.add_row(
            Text(name),
            "*" if changed else "",
            Text(shown, style="bold" if changed else ""),
            Text(REQUIRED if default is PydanticUndefined else repr(default), style="dim"),
        )
    return table


def _flat(config: BaseModel, prefix: str = "") -> dict[str, tuple[Any, Any]]:
    """Value and default of every field, by dotted path; those of a nested model have its own defaults."""
    flat = {}
    for name, field in type(config).model_fields.items():
        value = getattr(config, name)
        value = short_name(value) if isinstance(value, QuantRecipe) else value
        if isinstance(value, BaseModel):
            flat |= _flat(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = (value, field.get_default(call_default_factory=True, validated_data={}))
    return flat


def _recipes(study: Study) -> list[Table]:
    """Where trials have recipes of rules, a table of what sets each recipe apart from the first."""
    configs = [trial.config for trial in study.trials if trial.config.rules is not None]
    if not any(isinstance(config.recipe, QuantRecipe) for config in configs):
        return []
    by_name = {config.recipe_name: config.rules for config in configs}
    (first, base), *others = by_name.items()
    table = _table("how recipes differ from the first")
    for heading in ("recipe", "fields"):
        table.add_column(heading, overflow="fold")
    table.add_row(Text(first or ""), "")
    for name, rules in others:
        lines = recipe_differences(base, rules) if base and rules else []
        table.add_row(Text(name or ""), Text("\n".join(lines)))
    return [table] if others else []


def _trials(study: Study, jobs: Sequence[Job], done: set[str], most: int) -> Table:
    by_id = {job.id: job for job in jobs}
    axes = list(dict.fromkeys(axis for trial in study.trials for axis in trial.labels))
    table = _table(f"{len(study.trials)} trials; the same letters and digits are the same stage, done once")
    for heading in ("", *axes, "starts from", ""):
        table.add_column(Text(heading), overflow="fold")
    for number, trial in enumerate(study.trials[:most], start=1):
        job = by_id[f"{TRIALS}/{trial.id}"]
        stages = [f"{need.kind} {need.key[:SHORT]}" for need in _needs(job, by_id)]
        labels = [Text(trial.labels.get(axis, "")) for axis in axes]
        table.add_row(str(number), *labels, ", ".join(stages), "finished" if job.id in done else "")
    if len(study.trials) > most:
        table.caption = f"... and {len(study.trials) - most} more"
    return table


def _needs(job: Job, by_id: dict[str, Job]) -> list[Job]:
    """The stages that a job starts from, the earliest first."""
    found: dict[str, Job] = {}
    for need in job.needs:
        found |= {one.id: one for one in [*_needs(by_id[need], by_id), by_id[need]]}
    return list(found.values())


def _costs(costs: Sequence[Cost]) -> Table:
    table = _table("jobs, and the time of those that are open, one after another on this machine")
    for heading in ("job", "trials that need one", "jobs", "finished", "time", "estimated from"):
        right = heading in ("trials that need one", "jobs", "finished")
        table.add_column(heading, justify="right" if right else "left")
    for cost in costs:
        numbers = (cost.trials, cost.jobs, cost.finished)
        table.add_row(cost.kind, *map(str, numbers), _span(cost.seconds), cost.basis)
    known = [cost.seconds for cost in costs if cost.seconds is not None]
    total = (sum(low for low, _ in known), sum(high for _, high in known)) if len(known) == len(costs) else None
    table.add_section()
    jobs, finished = sum(cost.jobs for cost in costs), sum(cost.finished for cost in costs)
    table.add_row("all", "", str(jobs), str(finished), _span(total), "n workers take about one n-th")
    return table


def _span(seconds: tuple[float, float] | None) -> str:
    return "unknown" if seconds is None else span(*seconds)


def span(low: float, high: float) -> str:
    """A range of seconds in words, such as `20 s to 3 min`."""
    least, most = _duration(low), _duration(high)
    return least if least == most else f"{least} to {most}"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return "under 1 s" if seconds else "0 s"
    for unit, size, limit in (("s", 1, 100), ("min", 60, 6000), ("h", 3600, 3600 * 72)):
        if seconds < limit:
            value = seconds / size
            return f"{value:.0f} {unit}" if value >= 10 or unit == "s" else f"{value:.1f} {unit}"
    return f"{seconds / 86400:.0f} days"


def _table(title: str) -> Table:
    return Table(title=Text(title), title_justify="left", caption_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
