"""A user's folder: a study, and a module for each registered part that it names, which computes with a module of its
own."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qat import data  # noqa: F401  (its registries, and below those of all else, are there before they are kept)
from qat.lab.sweep import work  # noqa: F401
from qat.registry import Registry

PARTS = {
    "model": "from qat.models import build, register\n\n\n@register\ndef my_model(classes):\n"
    "    return build('cnn(width=4)', classes=classes)\n",
    "data": "from qat.data import build, register\n\n\n@register\ndef my_data():\n"
    "    return replace(build('digits'), task='my_task')\n",
    "task": "from qat.tasks import build, register\n\n\n@register\ndef my_task():\n"
    "    return replace(build('classification'))\n",
    "observer": "from qat.observers import observers, register\n\n\n@register\ndef my_observer():\n"
    "    return replace(observers.build('minmax'))\n",
    "quantizer": "from qat.quantizers import quantizers, register\n\n\n@register\ndef my_quantizer():\n"
    "    return replace(quantizers.build('ste'))\n",
    "ptq": "from qat.ptq import Method, Outcome, register\n\n\n@register\ndef my_ptq():\n"
    "    return Method(lambda subject, params, state, batches: Outcome(params, state, ('nothing',)))\n",
    "engine": "from qat.engines import engines, register\n\n\n@register\ndef my_engine():\n"
    "    return replace(engines.build('integer'))\n",
    "optimizer": "from qat.train import optimizers\n\n\n@optimizers.register\ndef my_optimizer(weight_decay):\n"
    "    return optimizers.build('sgd', weight_decay=weight_decay)\n",
    "schedule": "from qat.train import schedules\n\n\n@schedules.register\ndef my_schedule():\n"
    "    return schedules.build('cosine')\n",
    "runner": "from qat.lab.jobs.runners import register, runners\n\n\n@register\ndef my_runner():\n"
    "    return runners.build('pool(workers=1)')\n",
    "sink": "from qat.lab.sinks import Run, register\n\n\n@register\ndef my_sink():\n"
    "    def sink(origin):\n"
    "        def finish(record, layers):\n"
    "            (origin.root / 'told.txt').open('a').write(record.trial + chr(10))\n\n"
    "        return Run(lambda *_: None, finish, lambda *_: None)\n\n    return sink\n",
}
STUDY = """
from qat.lab.experiment.config import ExperimentConfig
from qat.train import TrainConfig
{imports}

TRAIN = TrainConfig(steps=2, batch_size=16, optimizer="my_optimizer", schedule="my_schedule")
BASE = ExperimentConfig(
    name="own", model="my_model", data="my_data", arm="qat", engine="my_engine",
    recipe="w8a8(observer='my_observer', quantizer='my_quantizer')",
    ptq=("my_ptq",), train=TRAIN, finetune=TRAIN, calibration_batches=1, analysis_batches=0,
)
AXES = {{"seed": [0]}}
"""


def write_own(folder: Path) -> Path:
    """The study's file, beside the modules that it needs."""
    for part, text in PARTS.items():
        (folder / f"own_{part}.py").write_text(f"from dataclasses import replace\n\nimport own_{part}_number\n\n{text}")
        (folder / f"own_{part}_number.py").write_text("NUMBER = 1\n")
    study = folder / "own.py"
    study.write_text(STUDY.format(imports="\n".join(f"import own_{part}" for part in PARTS)))
    return study


@contextlib.contextmanager
def forgotten() -> Iterator[None]:
    """Meanwhile anything may be registered, which is forgotten afterwards."""
    kept = [(registry, dict(registry._factories), dict(registry._places)) for registry in Registry.every]
    try:
        yield
    finally:
        for registry, factories, places in kept:
            names: Any
            for names, old in ((registry._factories, factories), (registry._places, places)):
                names.clear()
                names.update(old)
        for clear in Registry.caches:
            clear()
