"""BERT in plain numpy, from its definition, over tensors by Hugging Face's names; and checkpoints to read it from."""

import json
import math

import numpy as np
from safetensors.numpy import save_file

erf = np.vectorize(math.erf, otypes=[np.float64])
CONFIG = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "hidden_size": 16,
    "intermediate_size": 24,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 12,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
    "vocab_size": 30,
}
MODEL = "bert(layers=2, width=16, heads=4, hidden=24, vocabulary=30, positions=12, pooling='pooler')"


def linear(t, name, x):
    return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]


def layer_norm(t, name, x, eps):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * t[f"{name}.weight"] + t[f"{name}.bias"]


def attention(t, name, x, mask, heads):
    batch, length, width = x.shape
    q, k, v = (
        linear(t, f"{name}.self.{part}", x).reshape(batch, length, heads, -1).transpose(0, 2, 1, 3)
        for part in ("query", "key", "value")
    )
    scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(width // heads) + np.where(mask, 0, -1e30)[:, None, None]
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = weights / weights.sum(-1, keepdims=True) @ v
    return linear(t, f"{name}.output.dense", mixed.transpose(0, 2, 1, 3).reshape(x.shape))


def hidden_states(config, tensors, tokens, mask):
    """Of the embeddings and each layer, in float64."""
    t = {name: x.astype(np.float64) for name, x in tensors.items()}
    eps = config["layer_norm_eps"]
    x = t["embeddings.word_embeddings.weight"][tokens] + t["embeddings.token_type_embeddings.weight"][0]
    x = x + t["embeddings.position_embeddings.weight"][: tokens.shape[1]]
    states = [layer_norm(t, "embeddings.LayerNorm", x, eps)]
    for i in range(config["num_hidden_layers"]):
        name, x = f"encoder.layer.{i}", states[-1]
        y = attention(t, f"{name}.attention", x, mask, config["num_attention_heads"])
        x = layer_norm(t, f"{name}.attention.output.LayerNorm", x + y, eps)
        y = linear(t, f"{name}.intermediate.dense", x)
        y = linear(t, f"{name}.output.dense", 0.5 * y * (1 + erf(y / math.sqrt(2))))
        states.append(layer_norm(t, f"{name}.output.LayerNorm", x + y, eps))
    return states


def tensors(config=CONFIG, seed=0):
    """Random tensors of a checkpoint, by name."""
    width, hidden = config["hidden_size"], config["intermediate_size"]
    shapes = {f"embeddings.{name}_embeddings.weight": (config[rows], width) for name, rows in TABLES.items()}
    shapes |= _norm("embeddings.LayerNorm", width) | _dense("pooler.dense", width, width)
    for i in range(config["num_hidden_layers"]):
        name = f"encoder.layer.{i}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            shapes |= _dense(f"{name}.attention.{part}", width, width)
        shapes |= _norm(f"{name}.attention.output.LayerNorm", width) | _norm(f"{name}.output.LayerNorm", width)
        shapes |= _dense(f"{name}.intermediate.dense", hidden, width) | _dense(f"{name}.output.dense", width, hidden)
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


TABLES = {"word": "vocab_size", "position": "max_position_embeddings", "token_type": "type_vocab_size"}


def _dense(name, outputs, inputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name, width):
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def write(folder, values, **changes):
    """A checkpoint's folder, its config with changes; returns what `init` calls it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **changes}))
    save_file({name: np.ascontiguousarray(x) for name, x in values.items()}, folder / "model.safetensors")
    return f"hf:{folder}"
