"""A classifier of film reviews from MiniLM (SST-2's full sentences), in 8 bits by QAT.

QAT_SST2=.../SST-2 qat run configs/bert_sst2.py
"""

from qat.lab.experiment.config import ExperimentConfig
from qat.train import TrainConfig

CHECKPOINT = "hf:sentence-transformers/all-MiniLM-L6-v2"


def get_config() -> ExperimentConfig:
    """Fine-tuned in float for three epochs, then trained quantized for two thirds of one."""
    return ExperimentConfig(
        name="bert",
        model="bert(size='minilm')",
        data=f"sst2(tokenizer={CHECKPOINT!r})",
        init=CHECKPOINT,
        arm="qat",
        recipe="w8a8(observer='mse')",
        train=TrainConfig(
            steps=650,
            batch_size=32,
            learning_rate=5e-5,
            weight_decay=0.01,
            warmup_steps=65,
            schedule="linear",
        ),
        finetune=TrainConfig(
            steps=144,
            batch_size=32,
            learning_rate=5e-5,
            weight_decay=0.01,
            warmup_steps=14,
            schedule="linear",
        ),
        calibration_batches=4,
        evaluation_batch_size=64,
        latency_batch_size=1,
        analysis_batches=0,
        more_splits=("validation",),
    )
