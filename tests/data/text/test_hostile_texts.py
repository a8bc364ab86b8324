"""Text files and tokenizers that are not what they are taken for: refused in moments, with the place."""

import json
import time

import pytest

from qat import data, fileio
from qat.data.text import open_tokenizer
from qat.data.text.rows import read_table

GOOD = [{"text": f"text {i}", "label": "ab"[i % 2]} for i in range(8)]


def jsonl(path, *lines):
    texts = [line if isinstance(line, str) else json.dumps(line) for line in [*GOOD, *lines]]
    path.write_text("\n".join(texts))
    return path


def test_swapped_columns_are_refused_in_moments(tmp_path, tokenizer):
    lines = [f"a review of {i} words, all told\t{i % 2}" for i in range(50_000)]
    (tmp_path / "train.tsv").write_text("\n".join(["label\ttext", *lines]))
    start = time.monotonic()
    with pytest.raises(ValueError, match=r"50,000 different labels in the 50,000 rows.*`text` and `label` the other"):
        data.build("text_file", train=str(tmp_path / "train.tsv"), tokenizer=str(tokenizer))
    assert time.monotonic() - start < 10  # as many classes as rows took minutes


def test_classes_of_one_text_each_are_taken_where_they_are_few(tmp_path, tokenizer):
    (tmp_path / "train.tsv").write_text("\n".join(["text\tlabel", *(f"text {i}\tlabel {i}" for i in range(20))]))
    path = str(tmp_path / "train.tsv")
    assert data.build("text_file", train=path, test=path, validation=path, tokenizer=str(tokenizer)).classes == 20


@pytest.mark.parametrize("line", ['{"text": "a \\ud83d b", "label": "a"}', '{"text": "b", "label": "\\udbff"}'])
def test_half_a_surrogate_pair_has_its_line_and_can_be_dropped(tmp_path, tokenizer, capfd, line):
    path = jsonl(tmp_path / "train.jsonl", line)
    with pytest.raises(ValueError, match=r"train.jsonl:9: holds half of a surrogate pair, U\+D"):
        data.build("text_file", train=str(path), tokenizer=str(tokenizer))
    dataset = data.build("text_file", train=str(path), tokenizer=str(tokenizer), bad="drop")
    assert sum(map(len, dataset.splits.values())) == 8
    assert "train.jsonl:9" in capfd.readouterr().err
    assert dataset.splits["train"][0]["tokens"].size


def test_a_whole_surrogate_pair_is_a_sign(tmp_path):
    assert not read_table(jsonl(tmp_path / "a.jsonl", '{"text": "\\ud83d\\ude00", "label": "a"}')).problems


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("[" * 100_000, "is not JSON: it is nested too deep"),
        (json.dumps({"text": "a" * 1_000_001, "label": "a"}), "expected at most 1,000,000 signs"),
        ('{"text": "a", "label": ' + "9" * 5000 + "}", "is not JSON: Exceeds the limit"),
    ],
    ids=["nested", "long", "huge_number"],
)
def test_a_line_beyond_all_bounds_is_a_wrong_row(tmp_path, line, problem):
    (found,) = read_table(jsonl(tmp_path / "a.jsonl", line)).problems
    assert found.where.endswith("a.jsonl:9") and problem in found.what


def test_a_file_beyond_all_bounds_is_refused_before_it_is_read(tmp_path, monkeypatch):
    monkeypatch.setitem(fileio.MOST_BYTES, "texts", 10)
    with pytest.raises(ValueError, match=r"a.jsonl cannot be read: expected at most 10 bytes of texts"):
        read_table(jsonl(tmp_path / "a.jsonl"))


def test_labels_of_very_many_digits_are_words(tmp_path, tokenizer):
    lines = [f"text {i}\t{'9' * 5000 if i % 2 else 1}" for i in range(10)]
    (tmp_path / "train.tsv").write_text("\n".join(["text\tlabel", *lines]))
    path = str(tmp_path / "train.tsv")
    dataset = data.build("text_file", train=path, test=path, validation=path, tokenizer=str(tokenizer))
    assert dataset.class_names == ("1", "9" * 5000)


def huge(found, number):
    found["model"]["vocab"]["film"] = number


def added(found, number):
    found["added_tokens"][0]["id"] = number


@pytest.mark.parametrize("edit", [huge, added])
@pytest.mark.parametrize("number", [2**31, 2**64, -1])
def test_a_tokens_number_far_beyond_their_count_is_refused_in_moments(tmp_path, tokenizer, edit, number):
    found = json.loads(open_tokenizer(str(tokenizer)).core.to_str())
    edit(found, number)
    (tmp_path / "tokenizer.json").write_text(json.dumps(found))
    start = time.monotonic()
    with pytest.raises(
        ValueError, match=rf"tokenizer.json' is not: a token has the number {number}, but there are \d+"
    ):
        open_tokenizer(str(tmp_path))
    assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("name", "content"),
    [("tokenizer.json", "[" * 100_000), ("tokenizer.json", "[]"), ("tokenizer_config.json", "[1]"),
     ("tokenizer_config.json", '{"do_lower_case": [1]}'), ("tokenizer_config.json", "[" * 100_000)],
)  # fmt: skip
def test_files_of_a_tokenizer_that_hold_something_else_are_refused(tmp_path, name, content):
    if name != "tokenizer.json":
        (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n")
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match="`tokenizer` must name a readable one"):
        open_tokenizer(str(tmp_path))
