"""GLUE as tensorflow-datasets prepares it, read without TensorFlow."""

import sys

import numpy as np
import pytest

from qat import data
from qat.data.text import texts_of


def prepare(folder, name, fields, train):
    """A data set of the name and the features of a task of GLUE; `train` and six records more to test on."""
    import tensorflow_datasets as tfds

    class Glue(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        BUILDER_CONFIGS = (tfds.core.BuilderConfig(name=name, version=tfds.core.Version("2.0.0")),)

        def _info(self):
            label = tfds.features.ClassLabel(num_classes=2)
            features = {field: tfds.features.Text() for field in fields} | {"label": label, "idx": np.int32}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            more = [(f"fine film {number}", number % 2) for number in range(6)]
            return {"train": self._generate_examples(train), "validation": self._generate_examples(more)}

        def _generate_examples(self, rows):
            for number, (text, label) in enumerate(rows):
                yield number, dict.fromkeys(fields, text) | {"label": label, "idx": number}

    Glue(data_dir=folder, file_format="array_record").download_and_prepare()


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """SST-2, and MRPC with a label that is unknown."""
    folder = tmp_path_factory.mktemp("tfds")
    prepare(folder, "sst2", ("sentence",), [(f"good film {number} 电", number % 2) for number in range(20)])
    prepare(folder, "mrpc", ("sentence1", "sentence2"), [("bad", 1), ("bad", -1), ("dull", 0)] * 5)
    return str(folder)


def build(task, folder, tokenizer, **arguments):
    given = "".join(f", {name}={value!r}" for name, value in arguments.items())
    return data.build(f"glue({task!r}, {folder!r}, tokenizer={tokenizer!r}, length=8{given})")


def test_a_prepared_task_is_read_without_tensorflow(prepared, tokenizer, capfd):
    dataset = build("sst2", prepared, tokenizer, held_out=0.2)
    assert "validation is the test split, and 4 texts of train are the validation" in capfd.readouterr().err
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 16, "validation": 4, "test": 6}
    texts = [text for name in ("train", "validation") for text in texts_of(dataset.splits[name])]
    assert sorted(texts) == sorted(f"good film {number} 电" for number in range(20))
    train = next(data.in_order(dataset.splits["train"], 16))
    assert train["label"].tolist() == [int(text.split()[2]) % 2 for text in texts[:16]]
    assert train["mask"].sum(1).tolist() == [6] * 16
    assert (dataset.class_names, dataset.input_shape) == (("negative", "positive"), (8,))
    assert build("sst2", prepared, tokenizer, seed=1).fingerprint != dataset.fingerprint
    assert "tensorflow" not in sys.modules


def test_pairs_have_a_mark_between_them_and_unknown_labels_are_named_when_read(prepared, tokenizer):
    dataset = build("mrpc", prepared, tokenizer)
    assert "fine film 0 | fine film 0" in texts_of(dataset.splits["test"])
    assert (dataset.splits["test"][0]["tokens"] == 3).sum() == 2  # [SEP]
    with pytest.raises(ValueError, match=r"glue mrpc, train must have labels from 0 to 1, got -1 in record"):
        dataset.splits["train"][0]


def test_what_is_not_prepared_says_how_to_prepare_it(prepared, tokenizer, tmp_path):
    with pytest.raises(ValueError, match=r"glue/rte/<version>, found none .*tfds build glue/rte --file_format"):
        build("rte", prepared, tokenizer)
    with pytest.raises(ValueError, match=r"`task` must be one of cola, .* got 'sst'. Did you mean 'sst2'"):
        build("sst", prepared, tokenizer)
    broken = tmp_path / "glue" / "sst2" / "2.0.0"
    broken.mkdir(parents=True)
    (broken / "features.json").write_text("{}")
    with pytest.raises(ValueError, match="`data_dir` must hold readable GLUE data"):
        build("sst2", str(tmp_path), tokenizer)
