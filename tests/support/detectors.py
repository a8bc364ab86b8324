"""Boards as files and trials that find squares on them, for tests of `detect`."""

import json
import runpy
import shutil

import numpy as np
from boards import CLASSES, boards
from PIL import Image

from qat.lab.experiment import run_experiment
from qat.lab.experiment.config import ExperimentConfig, lineage
from qat.lab.runs.manifest import Signature
from qat.train import TrainConfig

STUDY = '''
"""Registers a small detector and small boards, each beside a template without squares."""

from boards import CLASSES, Small, boards
import numpy as np
from qat import data, models
from qat.data import Columns, Dataset


@models.register
def small_detector(classes, width=8):
    return Small(classes, width)


@data.register
def small_boards():
    splits = {}
    for seed, split in enumerate(("train", "validation", "test")):
        batch = boards(6, seed)
        splits[split] = Columns({**batch, "image": np.repeat(batch["image"], 2, -1), "scale": np.ones(6, np.float32)})
    return Dataset(
        "small_boards",
        splits,
        classes=2,
        input_shape=(64, 64, 2),
        fingerprint="0",
        task="detection",
        class_names=CLASSES,
    )
'''
BOARD = Signature(task="detection", classes=2, class_names=CLASSES, input_shape=(64, 64, 2))
ALONE = BOARD.model_copy(update={"input_shape": (64, 64, 1)})
PHOTO = Signature(task="detection", classes=2, class_names=CLASSES, input_shape=(64, 64, 3), scale=1 / 255)
BASE = ExperimentConfig.model_construct(
    name="small",
    model="small_detector",
    data="small_boards",
    train=TrainConfig(steps=20, batch_size=4, devices=1),
    evaluation_batch_size=6,
    calibration_batches=1,
    analysis_batches=0,
)


def make_runs(root):
    """A study of a float trial and of one made from it, quantized; in `files` the boards of its test split."""
    study = root / "small.py"
    study.write_text(STUDY)
    runpy.run_path(str(study))
    for trial, arm, recipe in (("float", "float", None), ("ptq", "ptq", "w8a8")):
        config = BASE.model_copy(update={"arm": arm, "recipe": recipe})
        about = {"trial": trial, "labels": {}, "lineage": lineage(config)}
        run_experiment(config, root, root / "trials" / trial, about)
    trials = [{"id": trial, "labels": {}} for trial in ("float", "ptq")]
    (root / "study.json").write_text(json.dumps({"name": "small", "imports": [str(study)], "trials": trials}))
    (root / "files").mkdir()
    for i, image in enumerate(boards(6, seed=2)["image"][..., 0]):
        saved(root / "files", f"{i}_test.png", 255 * image)
        saved(root / "files", f"{i}_temp.png", 0 * image)
    return root


def saved(folder, name, pixels):
    """The path of an image file with these pixels."""
    Image.fromarray(np.asarray(pixels, np.uint8)).save(folder / name)
    return folder / name


def changed(runs, tmp_path, trial, name, change):
    """A copy of a trial's folder with other values in one of its files."""
    folder = tmp_path / trial
    shutil.copytree(runs / "trials" / trial, folder)
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, **change}))
    return folder
