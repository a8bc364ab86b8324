"""What do 8, 4 and 3 bits cost a small detector of defects on circuit boards, with and without training?

YOLO-lite (0.48 M parameters) sees DeepPCB's boards and where they differ from their templates. One float model is
trained for 9,000 steps; from it start the control (600 steps more in float), PTQ, and QAT with the control's steps,
rate (a tenth) and order of the data, three seeds each. `PTQ naive` takes the least and largest value of every tensor
and treats all layers alike. `PTQ` takes the ranges of least squared error, keeps first and last layers at 8 bits, and
gives 8 bits to the layers that it measures to be sensitive, up to a tenth of the weights; QAT starts from it, by
straight-through gradients or by LSQ. BatchNorm's statistics are frozen in QAT's second half.

    QAT_DEEPPCB=.../DeepPCB qat sweep experiments/yolo_ptq_vs_qat.py
    qat keep runs/yolo_ptq_vs_qat experiments/results/yolo_ptq_vs_qat.csv \\
        --metric map50_95 --metric map50 --metric deeppcb_ap --metric deeppcb_f
    qat sweep experiments/yolo_ptq_vs_qat.py --fast  # in small, on drawn boards

Cost: some 110 min on 2 cores, of which 30 are the float model's; 52 trials.

Answer, mAP50-95 of the 500 test images in percent, means of 3 seeds with 95 % intervals; the float model has 72.82
(mAP50 97.3, the set's own AP 97.8), the control 73.23 ± 0.17. At 8 bits nothing is lost: PTQ 72.76 ± 0.19, QAT 73.18 ±
0.26 (LSQ 73.14 ± 0.50). At w4a8 naive PTQ is as good as the float model (73.02 ± 0.03), and better than ranges of least
error (72.71 ± 0.23): those clip. At w4a4 naive PTQ loses 2.82 ± 0.81 points, PTQ 1.09 ± 1.46, QAT 0.31 ± 0.05 (LSQ 0.40
± 0.47) against the float model and 0.71 ± 0.17 against the control. That QAT beats PTQ there, by 0.78 ± 1.49, three
seeds do not show, since PTQ depends on which batches it is calibrated on. At w3a3 they do: PTQ loses 9.37 ± 0.86 points
(naive 50.34), QAT 1.87 ± 0.28, LSQ 1.70 ± 0.33. LSQ is nowhere shown to be better than straight-through gradients.

The float model misses two figures that were aimed at, mAP50 (97.5) and the set's own AP (98.3); the control, trained
longer, has 97.5 and 97.9.
"""

from pathlib import Path

from qat.config import override
from qat.sweep.study import arms, load_config

RECIPES = ["w8a8", "w4a8", "w4a4", "w3a3"]
SHARE = 0.1  # of the weights may go to 8 bits where that helps most

CONFIG = load_config(Path(__file__).parent.parent / "configs" / "yolo_lite_deeppcb.py", {})
BASE = override(CONFIG, {"arm": "float", "recipe": None})

TRIALS = {"float": {"arm": "float"}}  # one, from which all others start
AXES = {
    "arm": {
        "control": {"arm": "control"},
        **arms("PTQ", "ptq", RECIPES, "observer='mse'", sensitive_share=SHARE),
        **arms("QAT STE", "qat", RECIPES, "observer='mse'", sensitive_share=SHARE),
        **arms("QAT LSQ", "qat", RECIPES, "observer='mse', quantizer='lsq'", sensitive_share=SHARE),
        **arms("PTQ naive", "ptq", RECIPES, "observer='minmax', edges='same'"),
    },
    "seed": [0, 1, 2, 3, 4, 5],
}


def wanted(labels: dict[str, str]) -> bool:
    """Three seeds an arm, and three more where PTQ and QAT are hard to tell apart."""
    return labels["seed"] in ("seed 0", "seed 1", "seed 2") or labels["arm"] in ("PTQ w4a4", "QAT STE w4a4")


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
