"""Buckets: batches of similar length, every example once, the numbers of the whole data unchanged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat import data
from qat.data.buckets import Buckets, buckets_up_to
from qat.data.source import Columns
from qat.train import TrainConfig, fit, per_example
from qat.train.feed import checked

LENGTHS = np.random.default_rng(0).integers(1, 17, 101)
MASK = np.arange(16) < LENGTHS[:, None]
TOKENS = np.where(MASK, np.random.default_rng(1).integers(1, 9, MASK.shape), 0).astype(np.int32)
SOURCE = Columns({"tokens": TOKENS, "mask": MASK, "label": np.arange(101, dtype=np.int32)})
BUCKETS = Buckets((4, 8, 16))


def lengths(batch):
    return batch["mask"].sum(1)


@pytest.mark.parametrize("size", [1, 7, 10, 101, 150])
def test_every_epoch_has_every_example_once(size):
    batches = data.Batches(SOURCE, size, seed=0, buckets=BUCKETS)
    stream = np.concatenate([batches[step]["label"] for step in range(-(-3 * 101 // size))])
    for epoch in stream[: 3 * 101].reshape(3, 101):
        assert sorted(epoch) == list(range(101))


def test_batches_are_cut_to_the_bucket_of_their_longest_example_and_lose_nothing():
    batches = data.Batches(SOURCE, 10, seed=0, buckets=BUCKETS)
    for step in range(30):
        batch = batches[step]
        width = batch["tokens"].shape[1]
        assert batch["mask"].shape == (10, width)
        assert width == min(size for size in BUCKETS.sizes if size >= lengths(batch).max())
        np.testing.assert_array_equal(lengths(batch), LENGTHS[batch["label"]])
        np.testing.assert_array_equal(batch["tokens"], TOKENS[batch["label"], :width])


def test_most_batches_hold_examples_of_one_bucket_in_random_order():
    batches = data.Batches(SOURCE, 10, seed=0, buckets=BUCKETS)
    widths = [batches[step]["tokens"].shape[1] for step in range(50)]
    plain = data.Batches(SOURCE, 10, seed=0)
    needed = [BUCKETS.sizes[BUCKETS.of_batch(plain[step]).max()] for step in range(50)]
    assert sum(widths) < 0.8 * sum(needed)  # 11 of 16 on average, where a quarter of the examples fits 4, another 8
    assert widths != sorted(widths)
    assert widths[:10] != widths[10:20]


def test_a_batch_depends_on_seed_and_step_alone():
    first, second = (data.Batches(SOURCE, 10, seed=0, buckets=BUCKETS) for _ in range(2))
    later = second[37]
    _ = [first[step] for step in range(30)]
    np.testing.assert_array_equal(first[37]["label"], later["label"])
    other = data.Batches(SOURCE, 10, seed=1, buckets=BUCKETS)
    assert any(not np.array_equal(first[step]["label"], other[step]["label"]) for step in range(3))


def test_without_buckets_and_with_one_batches_take_every_example_and_are_of_full_length():
    plain, bucketed = data.Batches(SOURCE, 10, seed=0), data.Batches(SOURCE, 10, seed=0, buckets=Buckets((16,)))
    assert plain[0]["tokens"].shape == (10, 16)
    for batches in (plain, bucketed):
        stream = np.concatenate([batches[step]["label"] for step in range(10)])
        assert len(np.unique(stream)) == 100


@pytest.mark.parametrize("size", [1, 8, 101, 200])
def test_evaluation_takes_every_example_once_by_length(size):
    order, batches = data.in_buckets(SOURCE, size, BUCKETS)
    batches = list(batches)
    np.testing.assert_array_equal(np.concatenate([batch["label"] for batch in batches]), order)
    assert sorted(order) == list(range(101))
    assert [len(batch["label"]) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    widths = [batch["tokens"].shape[1] for batch in batches]
    assert widths == sorted(widths)


def test_evaluation_without_buckets_is_in_order():
    order, batches = data.in_buckets(SOURCE, 8, None)
    np.testing.assert_array_equal(order, np.arange(101))
    np.testing.assert_array_equal(np.concatenate([batch["label"] for batch in batches]), np.arange(101))


def test_results_come_in_the_order_of_the_source_and_one_shape_a_bucket_is_compiled():
    shapes = []

    def metric(weight, batch):
        shapes.append(batch["tokens"].shape)
        return {"sum": weight * batch["tokens"].sum(1), "label": batch["label"]}

    order, batches = data.in_buckets(SOURCE, 8, BUCKETS)
    found = per_example(metric, jnp.int32(1), batches, order=order)
    np.testing.assert_array_equal(found["label"], np.arange(101))
    np.testing.assert_array_equal(found["sum"], TOKENS.sum(1))
    assert sorted(shapes) == [(8, 4), (8, 8), (8, 16)]


@pytest.mark.parametrize("order", [np.arange(3), np.zeros(101, int)], ids=["too few", "twice"])
def test_an_order_that_has_not_every_place_once_is_refused(order):
    with pytest.raises(ValueError, match="`order` must hold the place of each of 101 examples"):
        per_example(lambda w, batch: {"x": batch["label"]}, 0, data.in_order(SOURCE, 8), order=order)


def test_training_takes_batches_of_any_bucket():
    batches = data.Batches(SOURCE, 10, seed=0, buckets=BUCKETS)
    widths = set()

    def loss(params, state, batch, key, *, frozen):
        widths.add(batch["tokens"].shape[1])
        value = ((params["w"] * batch["tokens"]).sum(1) / batch["mask"].sum(1)).mean()
        return value**2, (state, {})

    result = fit(loss, {"w": jnp.ones(())}, {}, batches, TrainConfig(steps=12, batch_size=10), progress=False)
    assert jnp.isfinite(result.params["w"])
    assert widths == {4, 8, 16}


class Spoilt:
    """Batches of which that of step 1 is changed."""

    def __init__(self, change, buckets: Buckets | None = BUCKETS):
        self.batches, self.change, self.buckets = data.Batches(SOURCE, 10, seed=0, buckets=BUCKETS), change, buckets

    def __getitem__(self, step):
        batch = self.batches[step]
        return self.change(batch) if step else BUCKETS.full(batch)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda batch: {**batch, "tokens": batch["tokens"][:, :3], "mask": batch["mask"][:, :3]}, "one of the lengths"),
        (lambda batch: {**batch, "tokens": BUCKETS.full(batch)["tokens"], "mask": batch["mask"][:, :4]}, "one of the"),
        (lambda batch: {**batch, "label": batch["label"][:, None]}, r"\['label'\]: expected int32\[10\], got int32"),
        (lambda batch: {name: array[:5] for name, array in batch.items()}, r"expected .*\[10,16\], got .*\[5,16\]"),
        (lambda batch: {**batch, "tokens": batch["tokens"].astype(np.int64)}, r"expected int32\[10,16\], got int64"),
    ],
    ids=["no bucket", "two lengths", "other axis", "fewer", "other dtype"],
)
def test_training_refuses_batches_that_differ_in_more_than_the_bucket(change, message):
    batch_of = checked(Spoilt(change), 10, 5)
    batch_of(0)
    with pytest.raises(ValueError, match=rf"`batches\[1\]` must .*{message}"):
        batch_of(1)


def test_batches_without_buckets_may_not_differ_in_length():
    batch_of = checked(Spoilt(lambda batch: {n: a[:, :4] if a.ndim == 2 else a for n, a in batch.items()}, None), 10, 5)
    batch_of(0)
    with pytest.raises(ValueError, match=r"expected int32\[10,16\], got int32\[10,4\]"):
        batch_of(1)


def test_buckets_up_to_a_length_end_with_it():
    assert buckets_up_to(100) == Buckets((16, 32, 48, 64, 96, 100))
    assert buckets_up_to(8) == Buckets((8,))
    assert buckets_up_to(64, (128, 32)) == Buckets((32, 64))
    assert buckets_up_to(64, ()) is None
    with pytest.raises(ValueError, match=r"`sizes` must be lengths in ascending order"):
        Buckets((8, 4))


def test_a_padded_batch_costs_and_counts_what_an_unpadded_one_does():
    """By a model that heeds the mask."""
    from qat import tasks

    task = tasks.build("text_classification(class_names=('a', 'b'))")
    table = jax.random.normal(jax.random.key(0), (9, 2))

    def model(tokens, mask):
        return (table[tokens] * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)

    batch = {**next(data.in_order(SOURCE, 12)), "label": np.arange(12, dtype=np.int32) % 2}
    batch = {name: array[np.flatnonzero(LENGTHS[:12] <= 8)] for name, array in batch.items()}
    cut = BUCKETS.cut(batch)
    assert cut["tokens"].shape[1] == 8
    whole = {"tokens": BUCKETS.full(cut)["tokens"], "mask": BUCKETS.full(cut)["mask"], "label": batch["label"]}
    np.testing.assert_array_equal(whole["tokens"], batch["tokens"])
    for one in (task.loss, task.examples):
        padded, unpadded = (one(model(*task.inputs(x)), x) for x in (whole, cut))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), padded, unpadded)  # order of sums
