# pyright: reportArgumentType=false
"""Inputs reach a model as they did in training, and what is of another kind is told so."""

import base64
import io

import numpy as np
import pytest
from detectors import ALONE, BOARD, PHOTO, saved
from PIL import Image

from qat import data
from qat.data.text.sentences import texts_of
from qat.lab.inspect.detector.images import read_shot
from qat.lab.runs.manifest import Signature, signature_of
from qat.lab.serving.images import classifier_form, detector_form, scale_of_files
from qat.lab.serving.servable import Prepared, Rejected
from qat.lab.serving.texts import lengths, text_form
from qat.tasks.detection.decode import Detections

DIGIT = Signature(task="classification", classes=3, class_names=("a", "b", "c"), input_shape=(8, 8, 1))
FLOAT = np.dtype(np.float32)


def png(pixels, kind="png", **options):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, kind, **options)
    return buffer.getvalue()


def base64_of(content):
    return base64.b64encode(content).decode()


GREY = np.arange(64).reshape(8, 8) * 4


def test_a_file_and_an_array_of_its_pixels_are_one_input_of_a_classifier():
    form = classifier_form(DIGIT, FLOAT, 1 / 255)
    (raw,), (array,) = form.raw(png(GREY)).arrays, form.entry((GREY[..., None] / 255).tolist()).arrays
    assert raw.dtype == FLOAT and raw.shape == (8, 8, 1)
    np.testing.assert_allclose(raw, array, atol=1e-7)
    np.testing.assert_array_equal(form.entry({"image": base64_of(png(GREY))}).arrays[0], raw)
    np.testing.assert_array_equal(form.raw(png(GREY, "bmp")).arrays[0], raw)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.zeros((5, 2, 2, 1), np.uint8), 1.0),
        (np.linspace(0, 1, 20, dtype=np.float32).reshape(5, 2, 2, 1), np.float32(1 / 255)),
        (np.linspace(-1, 1, 20, dtype=np.float32).reshape(5, 2, 2, 1), None),
        (np.linspace(0, 255, 20, dtype=np.float32).reshape(5, 2, 2, 1), None),
    ],
    ids=["bytes", "fractions", "centred", "floats to 255"],
)
def test_files_are_scaled_as_the_data_set_shows_or_not_at_all(image, expected):
    split = data.Columns({"image": image})
    dataset = data.Dataset("d", {"train": split}, fingerprint="0", classes=2, input_shape=(2, 2, 1))
    assert scale_of_files(dataset) == expected


@pytest.mark.parametrize(
    ("content", "scale", "status", "told"),
    [
        (png(GREY), None, 415, "not known here.*--pixel-scale"),
        (png(GREY[:4]), 1.0, 422, "8 x 4 pixels, but the model was trained on 8 x 8"),
        (png(np.zeros((8, 8, 3))), 1.0, 422, "mode RGB, but the model takes grey images"),
        (b"GIF", 1.0, 400, "no image in one of the formats"),
        (png(np.random.default_rng(0).integers(0, 255, (8, 8)))[:60], 1.0, 400, "cannot be read"),
    ],
    ids=["unknown scale", "size", "colour", "no image", "cut off"],
)
def test_files_that_a_classifier_cannot_take_are_rejected(content, scale, status, told):
    with pytest.raises(Rejected, match=told) as caught:
        classifier_form(DIGIT, FLOAT, scale).raw(content)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("value", "status", "told"),
    [
        ("text", 422, "takes images"),
        ({"picture": ""}, 422, "array of numbers or {\"image\": BASE64}, got 'picture'"),
        ({"image": "", "template": ""}, 422, "got 'image, template'"),
        ({"image": "%"}, 400, "`image` must be a file's bytes as base64"),
        ({"image": 5}, 400, "`image` must be a file's bytes as base64"),
    ],
    ids=str,
)
def test_json_inputs_that_are_no_image_are_rejected(value, status, told):
    with pytest.raises(Rejected, match=told) as caught:
        classifier_form(DIGIT, FLOAT, 1.0).entry(value)
    assert caught.value.status == status


def test_a_classifier_answers_with_the_class_and_all_probabilities():
    form = classifier_form(DIGIT, FLOAT, 1.0)
    answer = form.answer(np.array([0.25, 0.5, 0.25]), form.samples[0])
    assert answer == {"label": "b", "class": 1, "probabilities": {"a": 0.25, "b": 0.5, "c": 0.25}}
    with pytest.raises(Rejected, match="not finite"):
        form.answer(np.array([np.nan, 0.5, 0.5]), form.samples[0])
    assert form.differ(np.array([0.6, 0.4]), np.array([0.9, 0.1])) == 0
    assert form.differ(np.array([0.6, 0.4]), np.array([0.4, 0.6])) == 1


@pytest.fixture
def board():
    return 255 * np.kron(np.random.default_rng(3).integers(0, 2, (16, 16)), np.ones((4, 4)))


def test_a_board_and_its_moved_twin_are_compared_as_detect_does(board, tmp_path):
    twin = np.roll(board, 2, axis=1)
    shot = read_shot(saved(tmp_path, "x_test.png", board), BOARD, saved(tmp_path, "x_temp.png", twin))
    form = detector_form(BOARD, 0.5)
    found = form.entry({"image": base64_of(png(board)), "template": base64_of(png(twin))})
    np.testing.assert_array_equal(found.arrays[0], shot.image.astype(np.float32))
    with pytest.raises(Rejected, match="compares a board with its defect-free twin"):
        form.raw(png(board))


def test_a_board_alone_is_read_as_detect_does(board, tmp_path):
    shot = read_shot(saved(tmp_path, "x.png", board), ALONE)
    np.testing.assert_array_equal(detector_form(ALONE, 0.5).raw(png(board)).arrays[0], shot.image.astype(np.float32))


@pytest.mark.parametrize(
    ("pixels", "told"),
    [
        (np.full((64, 64), 100), "expected a binarised image"),
        (np.stack([np.zeros((64, 64)), np.full((64, 64), 255), np.zeros((64, 64))], -1), "is in colour"),
        (np.zeros((32, 64)), "64 x 32 pixels"),
    ],
    ids=["grey", "colour", "size"],
)
def test_what_is_no_board_is_rejected(pixels, told):
    with pytest.raises(Rejected, match=told) as caught:
        detector_form(ALONE, 0.5).raw(png(pixels))
    assert caught.value.status == 422


def test_boxes_on_a_photograph_that_was_shrunk_are_told_in_its_own_pixels(tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (128, 96, 3))
    shot, form = read_shot(saved(tmp_path, "x.png", photo), PHOTO), detector_form(PHOTO, 0.5)
    found = form.raw(png(photo))
    np.testing.assert_array_equal(found.arrays[0], np.float32(PHOTO.scale) * shot.image.astype(np.float32))
    row = Detections(
        np.array([[10, 20, 30, 40], [0, 0, 9, 9], [0, 0, 0, 0]], np.float32),
        np.array([0.75, 0.4, 0.0], np.float32),
        np.array([1, 0, -1]),
    )
    expected = [{"box": [20.0, 40.0, 60.0, 80.0], "label": "hollow", "score": 0.75}]
    assert form.answer(row, found) == {"boxes": expected}


def test_detectors_disagree_on_the_share_of_boxes_without_a_counterpart():
    differ = detector_form(PHOTO, 0.5).differ
    boxes = np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32)
    row = Detections(boxes, np.array([0.9, 0.8]), np.array([0, 1]))
    assert differ(row, row) == 0
    assert differ(row, row._replace(labels=np.array([0, 0]))) == 0.5
    assert differ(row, row._replace(scores=np.array([0.9, 0.1]))) == pytest.approx(1 / 3)
    assert differ(row, row._replace(boxes=boxes + np.float32(8))) == 1
    nothing = row._replace(scores=np.zeros(2))
    assert (differ(nothing, nothing), differ(row, nothing)) == (0, 1)


@pytest.fixture(scope="module")
def reviews():
    return data.build("sentiment(examples=32)")


def test_texts_become_the_tokens_of_the_data_set(reviews):
    form, split = text_form(signature_of(reviews), reviews), reviews.splits["test"]
    for place, text in enumerate(texts_of(split)):
        tokens, mask = form.entry(text).arrays
        np.testing.assert_array_equal(tokens, split[place]["tokens"][: len(tokens)])
        np.testing.assert_array_equal(mask, split[place]["mask"][: len(mask)])
        assert not split[place]["mask"][len(mask) :].any()
        assert len(tokens) in lengths(reviews, 48) == (16, 32, 48)
        np.testing.assert_array_equal(form.raw(text.encode()).arrays[0], tokens)


def test_each_length_is_warmed_up(reviews):
    form = text_form(signature_of(reviews), reviews)
    assert [sample.group for sample in form.samples] == [((16,), (16,)), ((32,), (32,)), ((48,), (48,))]


def test_a_text_that_is_cut_is_told_in_its_answer(reviews):
    form = text_form(signature_of(reviews), reviews)
    cut, whole = form.entry("good " * 100), form.entry("good")
    assert cut.group == ((48,), (48,))
    assert form.answer(np.array([0.25, 0.75]), cut) == {
        "label": "positive",
        "class": 1,
        "probabilities": {"negative": 0.25, "positive": 0.75},
        "cut": True,
    }
    assert "cut" not in form.answer(np.array([0.25, 0.75]), whole)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (5, "must be a text, got '5'"),
        (["a", "b"], "must be a text"),
        ([1, 2], "must be a text"),
        ("  \n", "more than white space"),
        ("a" * 1_000_001, "at most 1,000,000 signs"),
        ("\ud800", "half of a surrogate pair"),
    ],
    ids=["number", "pair", "numbers", "empty", "long", "half a sign"],
)
def test_what_is_no_text_is_rejected(reviews, value, told):
    with pytest.raises(Rejected, match=told) as caught:
        text_form(signature_of(reviews), reviews).entry(value)
    assert caught.value.status == 422


def test_bytes_that_are_no_utf8_are_malformed(reviews):
    with pytest.raises(Rejected, match="not at byte 1") as caught:
        text_form(signature_of(reviews), reviews).raw(b"a\xff")
    assert caught.value.status == 400


def test_a_data_set_without_our_tokenizer_is_refused(reviews):
    other = data.Dataset("mine", {"test": data.Columns({"tokens": np.zeros((2, 4))})}, fingerprint="0")
    with pytest.raises(ValueError, match=r"must tokenize texts as .*its test split is a Columns"):
        text_form(signature_of(reviews), other)


def test_inputs_of_equal_shapes_share_a_group():
    assert Prepared((np.zeros(3), np.ones(3))).group == Prepared((np.ones(3), np.ones(3))).group
    assert Prepared((np.zeros(3),)).group != Prepared((np.zeros(4),)).group
