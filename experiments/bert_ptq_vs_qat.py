"""What do 8 and 4 bits cost a text classifier from MiniLM, with and without training, and with its float model as a
teacher?

MiniLM (6 layers of width 384, from all-MiniLM-L6-v2) is fine-tuned on the 6,920 sentences of SST-2 for 650 steps, by
three seeds. From each start the control (144 steps more in float, at the same rate), PTQ, and QAT with the control's
steps, rate and order of the data. `PTQ naive` takes the least and largest value of every tensor and treats all layers
alike; `PTQ` takes the ranges of least squared error, and gives 8 bits to the layers that it measures to be sensitive,
up to a tenth of the weights; QAT starts from it. `taught`: nine tenths of QAT's loss are how unlike the float model its
outputs are. `dynamic` ranges are each batch's own. Embeddings are quantized row by row; so are the products of
attention, but where they are said to stay in float.

    QAT_SST2=.../SST-2 qat sweep experiments/bert_ptq_vs_qat.py --runner 'pool(workers=2)'
    qat mcnemar runs/bert_ptq_vs_qat
    qat keep runs/bert_ptq_vs_qat experiments/results/bert_ptq_vs_qat.csv \\
        --metric accuracy_dev=validation/accuracy --metric accuracy_test=accuracy --metric f1
    qat sweep experiments/bert_ptq_vs_qat.py --fast  # in small, on reviews from a grammar

Cost: some 125 min on 2 cores, of which 18 are the float models'; 90 trials.

Answer, accuracy on the 1,821 test sentences in percent, means of 3 seeds with 95 % intervals; the float models have
88.56 ± 0.08 (87.69 ± 1.46 on dev), the control 89.02 ± 1.42. Drops against float, in points:

               PTQ          QAT straight-through   taught         QAT LSQ        taught
    w8a8   0.29 ± 0.75      -0.18 ± 1.93        0.02 ± 0.64   -0.35 ± 1.29    0.17 ± 0.98
    w4a8   0.26 ± 1.14      -0.04 ± 0.79        0.27 ± 0.60    0.29 ± 0.55    0.13 ± 1.32
    w4     0.00 ± 0.96      -0.04 ± 0.52       -0.05 ± 0.36    0.15 ± 0.96    0.29 ± 1.24
    w4a4   2.86 ± 2.17       1.15 ± 1.37        0.95 ± 0.52    1.08 ± 0.28    1.32 ± 0.62

Against the control, which has a mean above all 28 quantized arms, it is 3.31 ± 0.82 by PTQ at w4a4, and 1.61 ± 0.78,
1.41 ± 0.88, 1.54 ± 1.65 and 1.78 ± 0.80 by QAT. With Holm's correction over all 44 comparisons three seeds decide
none: neither what is lost nor that nothing is. At w8a8 percentile ranges lose 1.65 ± 1.31, dynamic ones -0.05 ± 0.49.
At w4a4 naive PTQ is near to guessing (61.9), and without the sensitive layers' 8 bits PTQ has 75.3 though attention's
products stay in float. That a teacher helps, or that LSQ does, three seeds do not show at any width.

The float models miss what was aimed at, 89.5 on both splits: three epochs on 6,920 sentences end there whatever the
pooling (the mean of all tokens: 88.0), the rate (4e-5 to 1e-4), frozen embeddings (88.3) or batches of 16 at 3e-5
(88.1). `r_drop=1.0`, which takes twice the time a step, ended at 88.9 (dev 88.5) in a trial of one seed that had
88.9 (dev 88.2) without; half-way it had 89.5 (dev 88.7), and the average of its weights (`ema_decay=0.99`) had 88.7
(dev 88.8) at the end.
"""

from pathlib import Path
from typing import Any

from qat.lab.experiment.config import override
from qat.lab.sweep.study import arms, load_config

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
        **arms("QAT STE", "qat", RECIPES, "observer='mse'", sensitive_share=SHARE),
        **arms("QAT LSQ", "qat", RECIPES, "observer='mse', quantizer='lsq'", sensitive_share=SHARE),
        **arms("QAT STE, taught", "qat", RECIPES, "observer='mse'", **TAUGHT),
        **arms("QAT LSQ, taught", "qat", RECIPES, "observer='mse', quantizer='lsq'", **TAUGHT),
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
