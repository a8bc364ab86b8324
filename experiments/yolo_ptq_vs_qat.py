"""What do 8, 4 and 3 bits cost a small detector of defects on circuit boards, with and without training?"""

from pathlib import Path
from typing import Any

from qat.config import override
from qat.sweep.study import load_config

RECIPES = ["w8a8", "w4a8", "w4a4", "w3a3"]
SHARE = 0.1  # of the weights may go to 8 bits where that helps most

CONFIG = load_config(Path(__file__).parent.parent / "configs" / "yolo_lite_deeppcb.py", {})
BASE = override(CONFIG, {"arm": "float", "recipe": None})


def _arms(name: str, arm: str, options: str, **more: Any) -> dict[str, Any]:
    return {f"{name} {recipe}": {"arm": arm, "recipe": f"{recipe}({options})", **more} for recipe in RECIPES}


TRIALS = {"float": {"arm": "float"}}  # one, from which all others start
AXES = {
    "arm": {
        "control": {"arm": "control"},
        **_arms("PTQ", "ptq", "observer='mse'", sensitive_share=SHARE),
        **_arms("QAT STE", "qat", "observer='mse'", sensitive_share=SHARE),
        **_arms("QAT LSQ", "qat", "observer='mse', quantizer='lsq'", sensitive_share=SHARE),
        **_arms("PTQ naive", "ptq", "observer='minmax', edges='same'"),
    },
    "seed": [0, 1, 2],
}

FAST = {
    "model": "yolo_lite(width=16)",
    "data": "boards(images=160, held_out=0.2)",
    "train.steps": 150,
    "train.warmup_steps": 20,
    "finetune.steps": 15,
    "finetune.warmup_steps": 2,
    "finetune.freeze_bn_step": 10,
    "calibration_batches": 2,
}
FAST_AXES = {"seed": [0]}
