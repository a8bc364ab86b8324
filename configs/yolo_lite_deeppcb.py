"""YOLO-lite on the circuit boards of DeepPCB, with the defect-free template as a second input, in 8 bits by QAT.

QAT_DEEPPCB=.../DeepPCB qat run configs/yolo_lite_deeppcb.py
"""

from qat.lab.experiment.config import ExperimentConfig
from qat.train import TrainConfig


def get_config() -> ExperimentConfig:
    """QAT at w8a8, at a tenth of the float model's rate; BatchNorm's statistics stand still in its second half."""
    return ExperimentConfig(
        name="yolo",
        model="yolo_lite(width=48)",
        data="deeppcb(jitter=2)",
        arm="qat",
        recipe="w8a8(observer='mse')",
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
        evaluation_batch_size=20,
        more_splits=("validation",),  # choices go by it; test is for the figures that are told
        latency_batch_size=1,
        analysis_batches=0,
        float_seed=0,
    )
