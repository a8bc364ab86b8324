"""The stages of a trial: each an object that owns the settings that its result and so its key depend on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from qat.lab.experiment.code import code_of
from qat.lab.experiment.config import ExperimentConfig, digest
from qat.lab.experiment.members import members, sources
from qat.lab.experiment.settings import (
    CalibrationSettings,
    ControlSettings,
    FloatSettings,
    Kind,
    QatSettings,
    Settings,
    TrialSettings,
)

ALONE = ("lab.experiment.stage_results",)  # says how each stage is made, and so imports what all of them need


@dataclass(frozen=True)
class Stage:
    """A piece of an experiment. `needs` are the stages whose results it starts from, `settings` those that it is made
    by (None where it is only read); `parts` is all that its key is a digest of, by name, and what is `not covered`."""

    kind: Kind
    key: str
    needs: tuple["Stage", ...] = ()
    settings: Settings | None = field(default=None, compare=False, kw_only=True)
    parts: Mapping[str, Any] = field(default_factory=dict, compare=False, kw_only=True)

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.kind}-{self.key}"

    def walk(self) -> Iterator["Stage"]:
        """The stages that it needs, each before what needs it, and then itself."""
        for need in self.needs:
            yield from need.walk()
        yield self


def stage_of(config: ExperimentConfig, fingerprint: str) -> Stage:
    """The trial of `config` on data of that fingerprint, as the last of its stages."""
    size = config.train.batch_size
    last = _stage(FloatSettings.of(config, seed=config.first_seed), fingerprint)
    if config.arm == "control":
        last = _stage(ControlSettings.of(config, batch_size=size), fingerprint, last)
    if config.recipe is not None:
        last = _stage(CalibrationSettings.of(config, batch_size=size), fingerprint, last)
    if config.arm == "qat":
        last = _stage(QatSettings.of(config, batch_size=size), fingerprint, last)
    return _stage(TrialSettings.of(config), fingerprint, last)


def _stage(settings: Settings, fingerprint: str, *needs: Stage) -> Stage:
    """A stage with its key: a digest of its settings, the code that it runs, the data, and the keys of its needs."""
    files, typed = sources(members(settings))
    code = code_of((settings.code,), files, ALONE)
    parts = {
        "kind": settings.kind,
        "settings": settings.keyed(),
        "data": fingerprint,
        "needs": {need.kind: need.key for need in needs},
        "code": code.files,
        "packages": code.packages,
    }
    not_covered = {"not covered": [*typed, *code.uncovered]}
    return Stage(settings.kind, digest(parts), needs, settings=settings, parts={**parts, **not_covered})
