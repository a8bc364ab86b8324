"""Checkpoints: every tensor comes to its place, and what does not fit is refused with all that is wrong."""

import json
import sys
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import CONFIG, MODEL, hidden_states, tensors, write
from safetensors.flax import save_file as save_jax

from qat import models
from qat.models import pretrained

MASK = np.arange(9) < np.array([[9], [4]])
TOKENS = np.where(MASK, np.random.default_rng(1).integers(1, 30, MASK.shape), 0).astype(np.int32)


def shapes_of(text):
    net = models.build(text, classes=3)
    return jax.eval_shape(lambda key: net.init(key, TOKENS, MASK, train=False), jax.random.key(0))


def started(text=MODEL):
    """Variables that are all 7: what a checkpoint does not replace is seen."""
    return jax.tree.map(lambda x: jnp.full(x.shape, 7, x.dtype), shapes_of(text))


SHAPES = shapes_of(MODEL)


def refused(init, shapes=SHAPES):
    with pytest.raises(ValueError, match=r"init|checkpoint|is ") as caught:
        pretrained.check_init(init, shapes)
    return str(caught.value)


def old_name(name):
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


@pytest.mark.parametrize("form", ["plain", "of a larger model", "with old names"])
def test_a_checkpoint_gives_its_hidden_states_whatever_its_names(tmp_path, form, capsys):
    values = tensors()
    rename = {"plain": str, "of a larger model": "bert.{}".format, "with old names": old_name}[form]
    extra = {"embeddings.position_ids": np.arange(12)[None], "cls.predictions.bias": np.zeros(30, np.float32)}
    init = write(tmp_path / "a", {**{rename(name): x for name, x in values.items()}, **extra})
    variables = pretrained.initial(init, started())
    states = models.build(MODEL, classes=3).apply(variables, TOKENS, MASK, method="hidden_states")
    for mine, other in zip(states, hidden_states(CONFIG, values, TOKENS, MASK), strict=True):
        np.testing.assert_allclose(np.asarray(mine)[MASK], other[MASK], rtol=1e-4, atol=1e-5)
    pooler = variables["params"]["pooler"]
    np.testing.assert_array_equal(pooler["kernel"], values["pooler.dense.weight"].T)
    said = capsys.readouterr().err
    assert "39 tensors read; left out: cls.predictions.bias, embeddings.position_ids; random: classifier/" in said


def test_the_classifier_alone_stays_as_it_was(tmp_path):
    variables = pretrained.initial(write(tmp_path / "a", tensors()), started())
    assert (variables["params"].pop("classifier")["kernel"] == 7).all()
    assert not any((x == 7).any() for x in jax.tree.leaves(variables))


def test_the_pooler_is_left_out_where_the_mean_is_taken(tmp_path, capsys):
    pretrained.initial(write(tmp_path / "a", tensors()), started(MODEL.replace("'pooler'", "'mean'")))
    assert "left out: pooler.dense.bias, pooler.dense.weight;" in capsys.readouterr().err


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16], ids=["bfloat16", "float16"])
def test_a_checkpoint_of_half_precision_is_read_into_float32(tmp_path, dtype):
    values = tensors()
    init = write(tmp_path / "a", values)
    half = {name: jnp.asarray(x, dtype) for name, x in values.items()}
    save_jax(half, tmp_path / "a" / "model.safetensors")
    kernel = pretrained.initial(init, started())["params"]["pooler"]["kernel"]
    assert kernel.dtype == jnp.float32
    np.testing.assert_array_equal(kernel, half["pooler.dense.weight"].T.astype(jnp.float32))


def test_all_tensors_that_do_not_fit_are_listed_at_once(tmp_path):
    values: dict[str, Any] = tensors()
    del values["encoder.layer.1.output.dense.bias"]
    del values["pooler.dense.weight"]
    values["encoder.layer.0.attention.self.key.weight"] = np.zeros((16, 15), np.float32)
    values["embeddings.LayerNorm.bias"] = np.zeros(16, np.int8)
    values["encoder.layer.0.crossattention.self.key.weight"] = np.zeros((16, 16), np.float32)
    assert refused(write(tmp_path / "a", values)).splitlines()[1:] == [
        "missing (2): encoder.layer.1.output.dense.bias, pooler.dense.weight",
        "unexpected (1): encoder.layer.0.crossattention.self.key.weight",
        "misshapen (2): embeddings.LayerNorm.bias is I8[16], expected [16], "
        "encoder.layer.0.attention.self.key.weight is F32[16, 15], expected [16, 16]",
        "A checkpoint without a pooler fits a bert with pooling='mean'.",
    ]


def test_nothing_is_read_where_the_check_refuses(tmp_path):
    values = {name: x for name, x in tensors().items() if "key" not in name}
    with pytest.raises(ValueError, match="missing"):
        pretrained.initial(write(tmp_path / "a", values), started())


def test_another_architecture_is_refused_with_all_that_differs(tmp_path):
    changes = {"model_type": "roberta", "hidden_act": "gelu_new", "position_embedding_type": "relative_key"}
    message = refused(write(tmp_path / "a", {}, **changes, hidden_size="16"))
    for part in ("'roberta'", "'gelu_new'", "'relative_key'", "hidden_size must be a whole number", "got '16'"):
        assert part in message


@pytest.mark.parametrize(
    ("numbers", "fitting"),
    [
        ((6, 384, 12, 1536), "bert(size='minilm', vocabulary=30, positions=12)"),
        ((2, 16, 2, 24), "bert(layers=2, width=16, heads=2, hidden=24, vocabulary=30, positions=12)"),
    ],
    ids=["a preset", "other heads alone"],
)
def test_a_model_of_another_size_is_told_which_one_fits(tmp_path, numbers, fitting):
    fields = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
    message = refused(write(tmp_path / "a", {}, **dict(zip(fields, numbers, strict=True))))
    assert message.endswith(f"The model that fits is {fitting}.")


def test_the_model_that_fits_is_one(tmp_path):
    init = write(tmp_path / "a", tensors())
    text = "bert(layers=2, width=16, heads=4, hidden=24, vocabulary=30, positions=12)"
    assert text in refused(init, shapes_of("bert(size='tiny')"))
    pretrained.check_init(init, shapes_of(text))


def test_a_model_that_is_no_bert_is_refused(tmp_path):
    message = refused(write(tmp_path / "a", tensors()), {"params": {"stem": {"kernel": jnp.zeros((3, 3))}}})
    assert "a model of kind bert" in message
    assert "parameters stem." in message


def test_a_checkpoint_that_is_not_finite_is_refused(tmp_path):
    values = tensors()
    values["pooler.dense.bias"][3] = np.nan
    with pytest.raises(ValueError, match=r"NaN or infinity in pooler\.dense\.bias\."):
        pretrained.initial(write(tmp_path / "a", values), started())


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"{", "is no JSON"),
        ("config.json", b"[]", "must hold an object, got list"),
        ("config.json", b"\xff{}", "is no JSON"),
        ("model.safetensors", b"short", "is damaged"),
    ],
    ids=["half a config", "a list", "not UTF-8", "half the weights"],
)
def test_a_damaged_file_is_named(tmp_path, name, content, message):
    init = write(tmp_path / "a", tensors())
    (tmp_path / "a" / name).write_bytes(content)
    assert message in refused(init)
    assert name in refused(init)


def test_a_pickle_is_never_read(tmp_path):
    init = write(tmp_path / "a", {})
    (tmp_path / "a" / "model.safetensors").rename(tmp_path / "a" / "pytorch_model.bin")
    assert "has no model.safetensors. A pickle such as pytorch_model.bin can run any code" in refused(init)


def test_a_folder_names_its_files_and_those_that_it_lacks(tmp_path):
    write(tmp_path, {})
    found = pretrained.files(str(tmp_path))
    assert (found.config.name, found.weights.name) == ("config.json", "model.safetensors")
    with pytest.raises(ValueError, match=r"has no tokenizer\.json or vocab\.txt"):
        _ = found.tokenizer
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    assert found.tokenizer.name == "vocab.txt"
    (tmp_path / "tokenizer.json").write_text("{}")
    assert pretrained.files(f"hf:{tmp_path}").tokenizer.name == "tokenizer.json"


@pytest.mark.parametrize("init", ["/no/such/folder", "hf:", "hf:../a b", "hf:a/b/c"])
def test_what_is_neither_folder_nor_id_is_refused(init):
    with pytest.raises(ValueError, match=r"is no folder here, and no id such as"):
        pretrained.files(init)


def test_an_init_of_another_kind_is_refused():
    assert "`init` must be 'hf:PATH_OR_ID'" in refused("torch:model")


def hub(monkeypatch, fetch):
    """Puts a hub that is a function in the place of the network."""
    fake = ModuleType("huggingface_hub")
    fake.snapshot_download = fetch  # pyright: ignore[reportAttributeAccessIssue]
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)


def test_an_id_is_fetched_without_pickles(tmp_path, monkeypatch):
    asked = []

    def fetch(name, allow_patterns):
        asked.append((name, allow_patterns))
        write(tmp_path / "a", tensors())
        return str(tmp_path / "a")

    hub(monkeypatch, fetch)
    pretrained.check_init("hf:some-one/a.model_v2", SHAPES)
    assert asked[0][0] == "some-one/a.model_v2"
    assert {"config.json", "model.safetensors", "vocab.txt", "tokenizer.json"} <= set(asked[0][1])
    assert not any(name.endswith((".bin", ".pt")) or "*" in name for name in asked[0][1])


def test_an_id_that_cannot_be_fetched_says_why_and_what_to_do(monkeypatch):
    def fetch(name, allow_patterns):
        raise OSError("no network\nsecond line")

    hub(monkeypatch, fetch)
    message = refused("hf:some-one/model")
    assert "could not be fetched from Hugging Face's hub: no network. Where there is no network, copy" in message


def test_without_the_library_an_id_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'jax-qat[hf]'" in refused("hf:some-one/model")


def test_the_config_of_a_first_checkpoint_without_a_type_is_read(tmp_path):
    init = write(tmp_path / "a", tensors())
    old = {name: value for name, value in CONFIG.items() if name not in ("model_type", "position_embedding_type")}
    (tmp_path / "a" / "config.json").write_text(json.dumps(old))
    pretrained.check_init(init, SHAPES)
