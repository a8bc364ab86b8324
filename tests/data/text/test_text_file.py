"""Files of texts: every kind gives the same examples; labels may be anything; what is wrong is said with its line."""

import json

import numpy as np
import pytest

from qat import data
from qat.data.text import texts_of

ROWS = [("the film is good", "up"), ("a bad, dull plot", "down"), ("电影 好", "up"), ("bad film", "down")]


def lines(rows, kind, header=True):
    """Rows as a file of some kind."""
    if kind == "jsonl":
        return "".join(json.dumps({"text": text, "label": label, "id": 1}) + "\n" for text, label in rows)
    mark, quote = ("\t", "") if kind == "tsv" else (",", '"')
    head = [("text", "label")] if header else []
    return "".join(f"{quote}{text}{quote}{mark}{label}\n" for text, label in [*head, *rows])


def build(tokenizer, train, **arguments):
    options = {"tokenizer": tokenizer, "length": 8, **arguments}
    given = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return data.build(f"text_file({train!r}, {given})")


def columns(dataset, split="train"):
    return next(data.in_order(dataset.splits[split], 100))


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl"])
def test_every_kind_of_file_gives_the_same_examples(save, tokenizer, kind, header):
    path = save(f"train.{kind}", lines(ROWS, kind, header))
    dataset = build(tokenizer, path, validation=path, test=path)
    assert dataset.class_names == ("down", "up")
    assert dataset.task == "text_classification(class_names=('down', 'up'))"
    assert texts_of(dataset.splits["test"]) == [text for text, _ in ROWS]
    found = columns(dataset)
    assert found["label"].tolist() == [1, 0, 1, 0] and found["label"].dtype == np.int32
    assert (found["tokens"].shape, found["tokens"].dtype) == ((4, *dataset.input_shape), np.int32)
    assert found["mask"].sum(1).tolist() == [6, 7, 5, 4]
    assert dataset.vocabulary == 27 and found["tokens"].max() < 27
    expected = build(tokenizer, save("same.tsv", lines(ROWS, "tsv")), validation=path, test=path)
    assert dataset.fingerprint == expected.fingerprint


def test_columns_may_have_any_names_and_places(save, tokenizer):
    path = save("train.csv", '﻿id,class,review\r\n1,b,good film\r\n2,a,"bad\r\n""film"""\r\n\r\n3,a,dull\r\n')
    dataset = build(tokenizer, path, test=path, validation=path, text="review", label="class")
    assert texts_of(dataset.splits["train"]) == ["good film", 'bad\r\n"film"', "dull"]
    assert dataset.class_names == ("a", "b")


def test_labels_that_are_numbers_are_in_the_order_of_their_values(save, tokenizer):
    rows = [{"text": "good", "label": label} for label in (10, 9, -1, 2)]
    path = save("train.jsonl", "\n".join(map(json.dumps, rows)))
    assert build(tokenizer, path, test=path, validation=path).class_names == ("-1", "2", "9", "10")


def test_splits_that_are_not_given_are_drawn_from_train_without_overlap(save, tokenizer):
    rows = [(f"film {'good ' * count}", "ab"[count % 2]) for count in range(20)]
    path = save("train.tsv", lines(rows, "tsv"))
    first, second = (build(tokenizer, path, length=30, held_out=0.2, seed=seed) for seed in (0, 1))
    assert {name: len(split) for name, split in first.splits.items()} == {"train": 12, "validation": 4, "test": 4}
    assert sorted(text for split in first.splits.values() for text in texts_of(split)) == sorted(
        text for text, _ in rows
    )
    assert first.fingerprint != second.fingerprint


def test_the_fingerprint_changes_with_texts_length_and_tokenizer(save, tokenizer, tmp_path):
    path, other = save("train.tsv", lines(ROWS, "tsv")), save("other.tsv", lines(ROWS[::-1], "tsv"))
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\ngood\n")
    arguments = {"test": path, "validation": path}
    found = [
        build(tokenizer, path, **arguments),
        build(tokenizer, other, **arguments),
        build(tokenizer, path, **arguments, length=9),
        build(str(tmp_path), path, **arguments),
    ]
    assert len({one.fingerprint for one in found}) == 4


def test_texts_that_are_too_long_are_cut_counted_and_reported_once(save, tokenizer, capfd):
    path = save("train.tsv", lines([*ROWS, ("very " * 20, "up")], "tsv"))
    dataset = build(tokenizer, path, test=path, validation=path, length=7)
    _ = columns(dataset), columns(dataset), columns(dataset, "test")
    assert capfd.readouterr().err.splitlines() == [
        "text_file, train: 1 of 5 texts have more than 7 tokens, cut.",
        "text_file, test: 1 of 5 texts have more than 7 tokens, cut.",
    ]
    assert texts_of(dataset.splits["train"])[-1] == "very " * 20


BAD = b"text\tlabel\nthe film is good\tup\nbad film\tdown\nno label\n\none\ttoo\tmany\n   \tup\ncaf\xe9\tup\ndull\t \n"
PROBLEMS = {
    4: "expected 2 fields, got 1",
    6: "expected 2 fields, got 3",
    7: "the text is empty",
    8: "is not UTF-8: byte 0xe9",
    9: "the label is empty",
}


def test_all_wrong_rows_are_refused_at_once_with_file_and_line(save, tokenizer):
    train, test = save("train.tsv", BAD), save("test.tsv", "text\tlabel\nfine\tsideways\nfine\tup\n")
    with pytest.raises(ValueError, match="has 6 wrong rows") as error:
        build(tokenizer, train, test=test, validation=test)
    for line, problem in PROBLEMS.items():
        assert f"{train}:{line}: {problem}" in str(error.value)
    assert f"{test}:2: label 'sideways' is never seen in training. Known: 'down', 'up'" in str(error.value)
    assert "bad='drop'" in str(error.value)


def test_wrong_rows_are_dropped_on_request_and_listed(save, tokenizer, capfd):
    train, test = save("train.tsv", BAD), save("test.tsv", "text\tlabel\nfine\tsideways\nfine\tup\n")
    dataset = build(tokenizer, train, test=test, validation=test, bad="drop")
    said = capfd.readouterr().err
    assert "Warning: dropped 6 wrong rows of" in said
    assert all(f"{train}:{line}: {problem}" in said for line, problem in PROBLEMS.items())
    assert texts_of(dataset.splits["train"]) == ["the film is good", "bad film"]
    assert texts_of(dataset.splits["test"]) == ["fine"]
    assert dataset.class_names == ("down", "up")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", 'text,label\ngood,up\n"bad,down\n', r"a.csv:3: is not CSV: unexpected end of data"),
        ("a.csv", 'text,label\ngood,up\n"bad"x,down\nfine,up\n', r"a.csv:3: is not CSV"),
        ("a.jsonl", '{"text": "good", "label": "up"}\n{"text": \n', r"a.jsonl:2: is not JSON"),
        ("a.jsonl", '{"text": "good", "label": "up"}\n{"text": "bad"}\n', r"a.jsonl:2: has no 'label'"),
        ("a.jsonl", '{"text": "good", "label": "up"}\n[1]\n', r"a.jsonl:2: expected an object, got '\[1\]'"),
        ("a.jsonl", '{"text": "good", "label": "up"}\n{"text": 1, "label": "up"}\n', r"2: expected a text, got 1"),
        ("a.jsonl", '{"text": "good", "label": "up"}\n{"text": "x", "label": 0.5}\n', r"2: expected a label that is"),
        (
            "a.tsv",
            "sentence\tlabel\ngood\t1\n",
            r"columns 'text' and 'label', got 'sentence', 'label'.*text='sentence'",
        ),
        ("a.tsv", "id\ttext\tclass\n1\tgood\t1\n", r"columns 'text' and 'label', got 'id', 'text', 'class'"),
        ("a.jsonl", '{"review": "good", "label": "up"}\n', r"columns 'text' and 'label', got 'review', 'label'"),
        (
            "a.csv",
            "Review,Class\ngood,up\nbad,down\nfine,up\ndull,down\n",
            r"a.csv:1 must name columns .*text='Review'",
        ),
        ("a.tsv", "", r"must hold texts with labels, got no usable row"),
        ("a.tsv", "text\tlabel\n", r"`train` must hold texts of at least two labels, got \[\]"),
        ("a.tsv", "text\tlabel\ngood\tup\nfine\tup\n", r"at least two labels, got \['up'\]"),
        ("a.tsv", "text\tlabel\n".encode("utf-16"), r"must be encoded in UTF-8, got UTF-16"),
        ("a.xlsx", "text\tlabel\n", r"must end in one of .tsv, .txt, .csv, .jsonl"),
    ],
)
def test_what_is_no_file_of_texts_is_refused(save, tokenizer, name, content, message):
    path = save(name, content)
    good = save("good.tsv", lines(ROWS, "tsv"))
    with pytest.raises(ValueError, match=message):
        build(tokenizer, path, test=good, validation=good)


def test_a_header_that_two_files_share_is_no_row_of_theirs(save, tokenizer):
    train = save("train.csv", "Review,Class\ngood,up\nbad,down\nfine,up\ndull,down\n")
    test = save("test.csv", "Review,Class\nnice,up\n")
    with pytest.raises(ValueError, match=r"train.csv:1 must name columns .*text='Review'"):
        build(tokenizer, train, test=test, validation=test)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"bad": "ignore"}, "`bad` must be 'refuse' or 'drop', got 'ignore'"),
        ({"length": 2}, "`length` must be at least 3 tokens"),
        ({"held_out": 0.5}, r"`held_out` must be in \(0, 0.5\), got 0.5"),
        ({"test": "nowhere.tsv"}, "nowhere.tsv cannot be read: No such file"),
    ],
)
def test_arguments_without_meaning_are_refused(save, tokenizer, arguments, message):
    path = save("train.tsv", lines(ROWS, "tsv"))
    with pytest.raises(ValueError, match=message):
        build(tokenizer, path, **arguments)
