"""Suppression on the device, against a plain greedy reference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from qat.tasks.detection.decode import Suppression


def random_candidates(seed, count=200, classes=3):
    rng = np.random.default_rng(seed)
    middle = rng.uniform(0, 200, (12, 2))[rng.integers(0, 12, count)] + rng.normal(0, 5, (count, 2))
    size = rng.uniform(10, 40, (count, 2))
    boxes = np.concatenate([middle - size / 2, middle + size / 2], -1).astype(np.float32)
    return boxes, rng.uniform(0, 1, (count, classes)).astype(np.float32) ** 3


def overlap(a, b):
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = np.prod(np.maximum(high - low, 0), dtype=np.float32)
    area = [np.prod(x[2:] - x[:2], dtype=np.float32) for x in (a, b)]
    return shared / max(area[0] + area[1] - shared, 1e-7)


def greedy(boxes, scores, rule):
    """Points that stay and classes that they are detections of, the best first."""
    best, kept = scores.max(-1), []
    for i in np.argsort(-best, kind="stable")[: rule.candidates]:
        if best[i] > rule.least and all(overlap(boxes[i], boxes[j]) <= rule.overlap for j in kept):
            kept.append(i)
    pairs = [(i, label) for i in kept for label in np.flatnonzero(scores[i] > rule.least)]
    return sorted(pairs, key=lambda pair: -scores[pair])[: rule.detections]


RULES = {
    "all stay in the running": Suppression(candidates=200, detections=100, vote=1),
    "few candidates": Suppression(candidates=20, detections=20, vote=1),
    "few detections": Suppression(candidates=200, detections=5, vote=1),
    "strict": Suppression(candidates=200, detections=100, overlap=0.1, vote=1),
    "only sure ones": Suppression(candidates=200, detections=100, least=0.7, vote=1),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_suppression_is_the_greedy_one(rule, seed):
    boxes, scores = random_candidates(seed)
    found, kept = jax.jit(rule)(boxes, scores), greedy(boxes, scores, rule)
    points, labels = map(list, zip(*kept, strict=True))
    assert found.boxes.shape == (rule.detections, 4)
    np.testing.assert_array_equal(found.boxes[: len(kept)], boxes[points])
    np.testing.assert_array_equal(found.scores[: len(kept)], scores[points, labels])
    np.testing.assert_array_equal(found.labels[: len(kept)], labels)
    assert (np.asarray(found.labels[len(kept) :]) == -1).all()
    assert not np.asarray(found.scores[len(kept) :]).any() and not np.asarray(found.boxes[len(kept) :]).any()


@pytest.mark.parametrize("vote", [0.3, 0.7])
def test_boxes_that_stay_are_voted_on_by_all_that_overlap_them(vote):
    boxes, scores = random_candidates(0)
    rule = Suppression(candidates=150, detections=100, vote=vote)
    found, kept = jax.jit(rule)(boxes, scores), greedy(boxes, scores, rule)
    voters = np.argsort(-scores.max(-1), kind="stable")[:150]
    moved = 0
    for place, (i, _) in enumerate(kept):
        near = [j for j in voters if i == j or overlap(boxes[i], boxes[j]) >= vote]
        expected = np.average(boxes[near], axis=0, weights=scores[near].max(-1))
        np.testing.assert_allclose(found.boxes[place], expected, rtol=1e-4)
        moved += len(near) > 1
    assert moved > 5
    points, labels = map(list, zip(*kept, strict=True))
    np.testing.assert_array_equal(found.scores[: len(kept)], scores[points, labels])
    np.testing.assert_array_equal(found.labels[: len(kept)], labels)


def test_a_batch_is_its_images_one_by_one():
    rule, many = Suppression(), [random_candidates(seed) for seed in range(3)]
    together = jax.jit(jax.vmap(rule))(*(jnp.stack(x) for x in zip(*many, strict=True)))
    for i, one in enumerate(many):
        for first, second in zip(jax.jit(rule)(*one), together, strict=True):
            np.testing.assert_array_equal(first, second[i])


def test_one_of_two_equal_boxes_stays_whatever_their_classes():
    found = jax.jit(Suppression())(jnp.array([[0.0, 0, 10, 10]] * 2), jnp.array([[0.9, 0.0], [0.0, 0.8]]))
    assert np.asarray(found.labels).tolist() == [0, -1, -1, -1]


def test_a_box_that_stays_is_a_detection_of_each_class_it_scores_in():
    boxes = jnp.array([[0.0, 0, 10, 10], [1, 0, 11, 10], [50, 0, 60, 10]])
    scores = jnp.array([[0.2, 0.9], [0.6, 0.1], [0.5, 0.0005]])
    found = jax.jit(Suppression(vote=1))(boxes, scores)
    assert np.asarray(found.labels).tolist() == [1, 0, 0, -1, -1, -1]
    np.testing.assert_allclose(found.scores[:3], [0.9, 0.5, 0.2])
    np.testing.assert_array_equal(found.boxes[:3], boxes[jnp.array([0, 2, 0])])


def test_what_was_suppressed_suppresses_nothing():
    boxes = jnp.array([[0.0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]])  # each overlaps the next by 6 / 14
    found = jax.jit(Suppression(overlap=0.3))(boxes, jnp.array([[0.9], [0.8], [0.7]]))
    np.testing.assert_allclose(np.asarray(found.scores), [0.9, 0.7, 0.0])


def test_nothing_above_the_least_score_is_no_detection():
    found = jax.jit(Suppression(least=0.5))(jnp.ones((5, 4)), jnp.full((5, 2), 0.5))
    assert np.asarray(found.labels).tolist() == [-1] * 10


@pytest.mark.parametrize(
    "wrong",
    [{"detections": 0}, {"detections": 400}, {"overlap": 1.5}, {"vote": 0}, {"least": -0.1}],
    ids=["none", "more than candidates", "overlap", "vote", "least"],
)
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        Suppression(**wrong)
