"""SST-2: the real sentences, and folders in GLUE's layout with and without labels of test."""

from pathlib import Path

import numpy as np
import pytest

from qat import data
from qat.data.text import texts_of

REAL = Path(__file__).parents[4] / "shared" / "data" / "SST-2"
HEAD = "sentence\tlabel\n"
TRAIN = HEAD + "".join(f"film {'good ' * (i % 7)}{i} \t{i % 2}\n" for i in range(20))
UNLABELLED = "index\tsentence\n0\tfine\n1\tbad\n"


@pytest.fixture
def folder(tmp_path):
    """Twenty sentences in the layout of GLUE."""
    root = tmp_path / "SST-2"
    root.mkdir()
    (root / "train.tsv").write_text(TRAIN)
    (root / "dev.tsv").write_text(HEAD + "fine film\t1\ndull film\t0\n")
    (root / "test.tsv").write_text(HEAD + "dull\t0\n")
    return root


def build(folder, tokenizer, **arguments):
    given = "".join(f", {name}={value!r}" for name, value in arguments.items())
    return data.build(f"sst2({str(folder)!r}, tokenizer={tokenizer!r}{given})")


@pytest.mark.skipif(not REAL.is_dir(), reason="the shared folder of SST-2 is not here")
def test_the_real_sentences_are_read_as_they_are_published(tokenizer):
    dataset = build(REAL, tokenizer, length=64)
    counts = {name: len(split) for name, split in dataset.splits.items()}
    assert counts == {"train": 6920, "validation": 872, "test": 1821}
    assert dataset.class_names == ("negative", "positive")
    assert dataset.buckets is not None and dataset.buckets.sizes == (16, 32, 48, 64)
    dev = next(data.in_order(dataset.splits["validation"], 872))
    assert dev["label"].mean() == pytest.approx(444 / 872)
    assert texts_of(dataset.splits["validation"])[0] == "one long string of cliches"
    batches = data.Batches(dataset.splits["train"], 32, seed=0, buckets=dataset.buckets)
    spent = sum(batches[step]["tokens"].size for step in range(216))
    assert spent < 0.55 * 216 * 32 * 64, "short sentences cost less"


def test_the_variable_names_the_folder(folder, tokenizer, monkeypatch):
    monkeypatch.setenv("QAT_SST2", str(folder))
    dataset = data.build(f"sst2(tokenizer={tokenizer!r}, length=16)")
    assert [len(dataset.splits[name]) for name in ("train", "validation", "test")] == [20, 2, 1]
    assert texts_of(dataset.splits["validation"]) == ["fine film", "dull film"]


@pytest.mark.parametrize("test", [UNLABELLED, None], ids=["without labels", "not there"])
def test_without_labels_of_test_dev_is_the_test_split_and_that_is_said(folder, tokenizer, capfd, test):
    (folder / "test.tsv").unlink() if test is None else (folder / "test.tsv").write_text(test)
    dataset = build(folder, tokenizer, held_out=0.2)
    assert texts_of(dataset.splits["test"]) == ["fine film", "dull film"]
    held = texts_of(dataset.splits["validation"])
    assert len(held) == 4 and sorted(held + texts_of(dataset.splits["train"])) == sorted(
        line.split("\t")[0] for line in TRAIN.splitlines()[1:]
    )
    said = capfd.readouterr().err
    assert "dev.tsv is the test split, and 4 sentences of train.tsv are the validation split" in said


def test_wrong_rows_of_every_file_are_refused_at_once(folder, tokenizer):
    (folder / "dev.tsv").write_text(HEAD + "fine\tpositive\n\t1\n")
    (folder / "test.tsv").write_text(HEAD + "fine\t1\t1\n")
    with pytest.raises(ValueError, match="has 3 wrong rows") as error:
        build(folder, tokenizer)
    assert f"{folder / 'dev.tsv'}:2: label 'positive' is unknown. Known: '0', '1'" in str(error.value)
    assert f"{folder / 'dev.tsv'}:3: the text is empty" in str(error.value)
    assert f"{folder / 'test.tsv'}:2: expected 2 fields, got 3" in str(error.value)


def test_training_sentences_of_one_label_are_refused(folder, tokenizer):
    (folder / "train.tsv").write_text(HEAD + "fine\t1\ngood\t1\n")
    with pytest.raises(ValueError, match=r"`train` must hold texts of at least two labels, got \['1'\]"):
        build(folder, tokenizer)


def test_other_columns_are_refused_with_those_that_are_expected(folder, tokenizer):
    (folder / "dev.tsv").write_text("text\tpolarity\nfine\t1\n")
    expected = r"must hold files with the columns \('sentence', 'label'\), got {'dev.tsv': \['text', 'polarity'\]}"
    with pytest.raises(ValueError, match=expected):
        build(folder, tokenizer)


def test_a_folder_of_something_else_is_refused_with_what_it_holds(tmp_path, tokenizer, monkeypatch):
    with pytest.raises(ValueError, match=r"must hold train.tsv and dev.tsv, got .*: no such folder.*QAT_SST2"):
        build(tmp_path / "nowhere", tokenizer)
    monkeypatch.delenv("QAT_SST2", raising=False)
    with pytest.raises(ValueError, match=r"`folder` must name the data, got none.*`sentiment`"):
        data.build(f"sst2(tokenizer={tokenizer!r})")


def test_padding_holds_nothing(folder, tokenizer):
    train = next(data.in_order(build(folder, tokenizer).splits["train"], 20))
    np.testing.assert_array_equal(train["tokens"] == 0, ~train["mask"])
