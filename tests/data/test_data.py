"""Data sets and batches: deterministic, complete, refused when broken."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from qat import data

NUMBERS = data.Columns({"x": np.arange(10), "y": np.arange(10.0)[:, None]})


class Plain:
    """A source without arrays, which counts its reads."""

    def __init__(self):
        self.reads = 0

    def __len__(self):
        return len(NUMBERS)

    def __getitem__(self, index):
        self.reads += 1
        return NUMBERS[index]


def test_digits_splits_are_disjoint_complete_and_have_equal_parts_of_each_class():
    splits = data.build("digits").splits
    columns = {name: next(data.in_order(split, len(split))) for name, split in splits.items()}
    labels = {name: column["label"] for name, column in columns.items()}
    assert sum(map(len, labels.values())) == 1797
    images = np.concatenate([column["image"] for column in columns.values()])
    assert len(np.unique(images.reshape(1797, -1), axis=0)) == 1797, "no image is in two splits"
    for name, part in [("train", 0.7), ("validation", 0.15), ("test", 0.15)]:
        counts = np.bincount(labels[name], minlength=10) / np.bincount(np.concatenate(list(labels.values())))
        np.testing.assert_allclose(counts, part, atol=0.01)  # a class has some 180 images


def test_digits_are_what_their_metadata_says():
    digits = data.build("digits")
    example = digits.splits["train"][0]
    assert example["image"].shape == digits.input_shape
    assert (example["image"].dtype, example["label"].dtype) == (np.float32, np.int32)
    train = next(data.in_order(digits.splits["train"], 1259))
    assert (train["image"].min(), train["image"].max()) == (0.0, 1.0)
    assert set(train["label"]) == set(range(digits.classes))


def test_fingerprint_is_that_of_the_data_and_its_split():
    assert data.build("digits").fingerprint == data.build("digits()").fingerprint
    assert data.build("digits").fingerprint != data.build("digits(seed=1)").fingerprint
    assert data.build("digits").fingerprint != data.build("digits(held_out=0.2)").fingerprint


def test_a_name_or_argument_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"Unknown data set 'digitz'.*Did you mean 'digits'"):
        data.build("digitz")
    with pytest.raises(ValueError, match="`held_out` must be in"):
        data.build("digits(held_out=0.5)")


@pytest.mark.parametrize("size", [3, 5, 10, 25])
def test_every_epoch_has_every_example_once(size):
    batches = data.Batches(NUMBERS, size, seed=0)
    stream = np.concatenate([batches[step]["x"] for step in range(20)])
    for epoch in stream[: len(stream) // 10 * 10].reshape(-1, 10):
        assert sorted(epoch) == list(range(10))
    assert batches.steps_per_epoch == 10 / size


def test_a_batch_depends_on_seed_and_step_alone():
    a, b, c = (data.Batches(NUMBERS, 4, seed=seed) for seed in (0, 0, 1))
    later = a[7]
    np.testing.assert_array_equal([b[step]["x"] for step in range(8)][7], later["x"])
    assert any(not np.array_equal(a[step]["x"], c[step]["x"]) for step in range(3))


def test_augmentation_is_random_by_step_and_repeatable():
    def jitter(batch, rng):
        return {**batch, "y": batch["y"] + rng.normal(size=batch["y"].shape)}

    noisy, plain = data.Batches(NUMBERS, 10, seed=0, augment=jitter), data.Batches(NUMBERS, 10, seed=0)
    noise = [noisy[step]["y"] - plain[step]["y"] for step in range(2)]
    assert not np.array_equal(noise[0], noise[1])
    np.testing.assert_array_equal(noisy[1]["y"], noisy[1]["y"])


def test_in_order_gives_every_example_once_in_order():
    batches = list(data.in_order(NUMBERS, 4))
    assert [len(batch["x"]) for batch in batches] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate([batch["x"] for batch in batches]), np.arange(10))


def test_a_source_of_single_examples_gives_the_batches_of_one_in_memory_and_is_read_once():
    plain = Plain()
    held = data.InMemory(plain)
    for step in range(6):
        np.testing.assert_array_equal(
            data.Batches(held, 4, seed=0)[step]["y"], data.Batches(NUMBERS, 4, seed=0)[step]["y"]
        )
    assert plain.reads == 10
    np.testing.assert_array_equal(data.Batches(plain, 4, seed=0)[2]["y"], data.Batches(NUMBERS, 4, seed=0)[2]["y"])


def test_empty_sources_and_sizes_are_refused():
    empty = data.Columns({"x": np.zeros((0, 2))})
    for make in (lambda: data.Batches(empty, 2, seed=0), lambda: data.in_order(empty, 2)):
        with pytest.raises(ValueError, match="`source` must hold at least one example"):
            make()
    for make in (lambda: data.Batches(NUMBERS, 0, seed=0), lambda: data.in_order(NUMBERS, 0)):
        with pytest.raises(ValueError, match="`batch_size` must be at least 1, got 0"):
            make()
    with pytest.raises(ValueError, match="`arrays` must be of one length"):
        data.Columns({"x": np.zeros(2), "y": np.zeros(3)})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with a data set of MNIST's name and features, prepared by tensorflow-datasets without TensorFlow."""
    import tensorflow_datasets as tfds

    def pixels(number):
        file = io.BytesIO()
        Image.fromarray(np.full((28, 28), number * 5, np.uint8)).save(file, "png")
        return io.BytesIO(file.getvalue())

    class Mnist(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("3.0.1")

        def _info(self):
            image = tfds.features.Image(shape=(28, 28, 1))
            features = tfds.features.FeaturesDict({"image": image, "label": tfds.features.ClassLabel(num_classes=10)})
            return self.dataset_info_from_configs(features=features)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(24), "test": self._generate_examples(6)}

        def _generate_examples(self, count):
            for number in range(count):
                yield number, {"image": pixels(number), "label": number % 10}

    folder = tmp_path_factory.mktemp("tfds")
    Mnist(data_dir=folder, file_format="array_record").download_and_prepare()
    return folder


def test_prepared_mnist_is_read_without_tensorflow(prepared):
    mnist = data.build(f"mnist({str(prepared)!r}, held_out=0.25)")
    assert {name: len(split) for name, split in mnist.splits.items()} == {"train": 18, "validation": 6, "test": 6}
    batch = next(data.in_order(mnist.splits["train"], 18))
    assert (batch["image"].shape, batch["image"].dtype) == ((18, *mnist.input_shape), np.float32)
    np.testing.assert_array_equal(np.round(batch["image"][:, 0, 0, 0] * 255 / 5) % 10, batch["label"])
    assert batch["label"].dtype == np.int32
    held_out = next(data.in_order(mnist.splits["validation"], 6))["image"][:, 0, 0, 0]
    assert not set(held_out) & set(batch["image"][:, 0, 0, 0])
    assert "tensorflow" not in sys.modules


def test_mnist_that_is_not_there_says_how_to_prepare_it(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"found none in .*tfds build mnist --file_format=array_record"):
        data.build(f"mnist({str(tmp_path)!r})")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "elsewhere"))
    with pytest.raises(ValueError, match="elsewhere"):
        data.build("mnist")


@pytest.mark.parametrize("spoil", [lambda file: file.write_bytes(file.read_bytes()[:100]), lambda file: file.unlink()])
def test_mnist_with_a_broken_file_is_refused(prepared, tmp_path, spoil):
    copy = tmp_path / "mnist" / "3.0.1"
    copy.mkdir(parents=True)
    for file in (prepared / "mnist" / "3.0.1").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    spoil(next(copy.glob("mnist-test*")))
    with pytest.raises(ValueError, match="`data_dir` must hold readable MNIST"):
        data.build(f"mnist({str(tmp_path)!r})")
