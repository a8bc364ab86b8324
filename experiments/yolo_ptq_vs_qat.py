"""What do 8, 4 and 3 bits cost a small detector of defects on circuit boards, with and without training?"""

from qat.config import ExperimentConfig
from qat.train import TrainConfig

RECIPES = ["w8a8", "w4a8", "w4a4", "w3a3"]
SEEDS = [0, 1, 2]
SHARE = 0.1

BASE = ExperimentConfig(
    name="yolo",
    model="yolo_lite(width=48)",
    data="deeppcb(held_out=0.01)",
    train=TrainConfig(
        steps=9000,
        batch_size=16,
        learning_rate=5e-3,
        weight_decay=0.02,
        warmup_steps=300,
        clip_norm=10.0,
        ema_decay=0.999,
        checkpoint_every=500,
    ),
    finetune=TrainConfig(
        steps=600,
        batch_size=16,
        learning_rate=5e-4,
        weight_decay=0.02,
        warmup_steps=30,
        clip_norm=10.0,
        freeze_bn_step=300,
        checkpoint_every=200,
    ),
    calibration_batches=16,
    evaluation_batch_size=20,
    latency_batch_size=1,
    analysis_batches=0,
    float_seed=0,
)


def _quantized(arm, options):
    return {
        f"{arm} {recipe}": {"arm": arm.split()[0], "recipe": f"{recipe}({options})", "sensitive_share": SHARE}
        for recipe in RECIPES
    }


NAIVE = {
    f"ptq naive {recipe}": {"arm": "ptq", "recipe": f"{recipe}(observer='minmax', edges='same')"} for recipe in RECIPES
}
ARMS = {
    "control": {"arm": "control"},
    **_quantized("ptq", "observer='mse'"),
    **_quantized("qat ste", "observer='mse'"),
    **_quantized("qat lsq", "observer='mse', quantizer='lsq'"),
    **NAIVE,
}
TRIALS = {"float": {"arm": "float"}}
AXES = {"arm": ARMS, "seed": SEEDS}
