"""The task of classifying texts: its metrics are those of scikit-learn, class by class."""

import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, f1_score, precision_recall_fscore_support

from qat import tasks
from qat.tasks.text_classification import confusion, scores


def outcome(classes, seed=0, count=200):
    """What `examples` gives for random logits."""
    rng = np.random.default_rng(seed)
    batch = {"label": rng.integers(0, classes, count).astype(np.int32)}
    logits = jnp.asarray(rng.normal(size=(count, classes)) + np.eye(classes)[batch["label"]], jnp.float32)
    found = tasks.build("text_classification").examples(logits, batch)
    return {name: np.asarray(array) for name, array in found.items()}


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_metrics_are_those_of_scikit_learn(classes):
    arrays = outcome(classes)
    names = tuple("abcde"[:classes])
    found = tasks.build(f"text_classification(class_names={names!r})").summary(arrays)
    label, prediction = arrays["label"], arrays["prediction"]
    assert found["accuracy"] == pytest.approx((label == prediction).mean())
    assert found["f1"] == pytest.approx(f1_score(label, prediction, average="binary" if classes == 2 else "macro"))
    assert found["cross_entropy"] == pytest.approx(arrays["cross_entropy"].mean(dtype=np.float64))
    by_class = precision_recall_fscore_support(label, prediction)
    for metric, values in zip(("precision", "recall", "f1"), by_class, strict=False):
        assert [found[f"{metric}/{name}"] for name in names] == pytest.approx(np.asarray(values).tolist())
    np.testing.assert_array_equal(confusion(arrays), confusion_matrix(label, prediction))


def test_the_confusion_matrix_has_a_row_a_label_and_a_column_a_prediction():
    arrays = {"label": np.array([0, 0, 1, 2]), "prediction": np.array([0, 1, 1, 0])}
    np.testing.assert_array_equal(confusion(arrays), [[1, 1, 0], [0, 1, 0], [1, 0, 0]])
    np.testing.assert_array_equal(confusion(arrays, 4)[:, 3], 0)
    with pytest.raises(ValueError, match="`classes` must be more than any label and prediction, got 2 and 2"):
        confusion(arrays, 2)


def test_a_class_without_labels_has_no_numbers_and_does_not_count():
    arrays = {"label": np.array([0, 2]), "prediction": np.array([0, 2]), "accuracy": np.ones(2)}
    found = scores({**arrays, "cross_entropy": np.zeros(2)}, ("a", "b", "c"))
    assert found["f1"] == 1.0
    assert "f1/b" not in found and found["recall/c"] == 1.0


def test_predictions_of_one_class_alone_give_numbers():
    arrays = {"label": np.array([0, 1, 1]), "prediction": np.zeros(3, int), "accuracy": np.array([1.0, 0, 0])}
    found = scores({**arrays, "cross_entropy": np.zeros(3)})
    assert found["f1"] == found["precision/1"] == found["recall/1"] == 0.0
    assert found["f1/0"] == pytest.approx(0.5)


def test_what_a_model_sees_is_tokens_and_mask():
    batch = {"tokens": np.ones((2, 3), np.int32), "mask": np.ones((2, 3), bool), "label": np.zeros(2, np.int32)}
    task = tasks.build("text_classification")
    assert [one is batch[name] for one, name in zip(task.inputs(batch), ("tokens", "mask"), strict=True)] == [True] * 2
    loss, watched = task.loss(jnp.array([[0.0, 0.0], [20.0, -20.0]]), batch)
    assert float(loss) == pytest.approx(np.log(2) / 2)
    assert float(watched["accuracy"]) == 1.0
