"""What do 8 and 4 bits cost a text classifier from MiniLM, with and without training, and with its float model as a
teacher?"""

from pathlib import Path
from typing import Any

from qat.config import override
from qat.sweep.study import arms, load_config

RECIPES = ["w8a8", "w4a8", "w4a4", "w4"]
SHARE = 0.1  # of the weights may go to 8 bits where that helps most
TEACHING = 0.9  # part of the loss that the float model's outputs make
TAUGHT: dict[str, Any] = {"sensitive_share": SHARE, "distillation": TEACHING}

CONFIG = load_config(Path(__file__).parent.parent / "configs" / "bert_sst2.py", {})
BASE = override(CONFIG, {"arm": "float", "recipe": None})

AXES = {
    "arm": {
        "float": {"arm": "float"},
        "control": {"arm": "control"},
        **arms("PTQ naive", "ptq", ["w8a8", "w4a8", "w4a4"], "observer='minmax', edges='same'"),
        **arms("PTQ", "ptq", RECIPES, "observer='mse'", sensitive_share=SHARE),
        **arms("PTQ percentile", "ptq", ["w8a8"], "observer='percentile'", sensitive_share=SHARE),
        **arms("PTQ dynamic", "ptq", ["w8a8_dynamic", "w4a8_dynamic"], ""),
        **arms("PTQ products in float", "ptq", ["w8a8", "w4a4"], "observer='mse', products=False"),
        **arms("QAT STE", "qat", ["w8a8"], "observer='mse'", sensitive_share=SHARE),
        **arms("QAT STE, taught", "qat", ["w4a4", "w4a8"], "observer='mse'", **TAUGHT),
        **arms("QAT STE", "qat", ["w4a4"], "observer='mse'", sensitive_share=SHARE),
        **arms("QAT LSQ, taught", "qat", ["w4a4"], "observer='mse', quantizer='lsq'", **TAUGHT),
        **arms("QAT STE", "qat", ["w4"], "observer='mse'", sensitive_share=SHARE),
        **arms("QAT STE, taught", "qat", ["w8a8"], "observer='mse'", **TAUGHT),
        **arms("QAT STE", "qat", ["w4a8"], "observer='mse'", sensitive_share=SHARE),
        **arms("QAT LSQ", "qat", ["w4a4"], "observer='mse', quantizer='lsq'", sensitive_share=SHARE),
    },
    "seed": [0, 1, 2],
}

FAST = {
    "model": "bert(size='tiny', width=64, hidden=128, dropout=0.0, vocabulary=120)",
    "data": "sentiment",
    "init": None,
    "train.steps": 800,
    "train.batch_size": 64,
    "train.learning_rate": 1e-3,
    "train.warmup_steps": 80,
    "finetune.steps": 80,
    "finetune.batch_size": 64,
    "finetune.learning_rate": 1e-4,
    "finetune.warmup_steps": 8,
    "calibration_batches": 2,
}
FAST_AXES = {"seed": [0]}
