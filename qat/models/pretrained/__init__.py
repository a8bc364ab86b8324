"""Checkpoints of others as a model's first weights: `initial("hf:PATH_OR_ID", variables)`.

Read are folders as Hugging Face's libraries write them, with `config.json` and `model.safetensors`; never a pickle.
"""

from qat.models.pretrained.files import Files, files, fingerprint
from qat.models.pretrained.load import check_init, initial

__all__ = ["Files", "check_init", "files", "fingerprint", "initial"]
