"""DeepPCB with mistakes: all of them are found, and said where they are."""

import numpy as np
import pytest
from deeppcb_folder import TRAINVAL, build, image_file, spoil
from PIL import Image


def test_all_that_is_wrong_is_refused_at_once_with_file_and_line(folder):
    expected = spoil(folder)
    with pytest.raises(ValueError, match=f"has {len(expected)} problems") as error:
        build(folder)
    for one in expected:
        assert one in str(error.value)
    assert "bad='drop'" in str(error.value)


def test_what_is_wrong_is_dropped_on_request_and_all_of_it_is_listed(folder, original, drawn, capfd):
    expected = spoil(folder)
    dataset = build(folder, bad="drop", held_out=0.5)
    listed_on_stderr = capfd.readouterr().err
    assert f"dropped for {len(expected)} problems" in listed_on_stderr
    for one in expected:
        assert one in listed_on_stderr
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 1, "validation": 1, "test": 1}
    np.testing.assert_array_equal(dataset.splits["test"][0]["image"], build(original).splits["test"][1]["image"])
    kept = [dataset.splits[name][0]["labels"] for name in ("train", "validation")]
    counts = sorted(len(drawn[index][2].labels) for index in (0, 5))
    assert sorted((labels >= 0).sum() for labels in kept) == counts


def test_images_that_are_broken_inside_or_not_binarised_are_named_when_read(folder):
    first, second = image_file(folder, TRAINVAL), image_file(folder, TRAINVAL + 1, "temp")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (640, 640), np.uint8)).save(first)
    Image.open(second).save(second, "png")
    second.write_bytes(second.read_bytes()[:800])
    dataset = build(folder)
    with pytest.raises(ValueError, match=r"expected a binarised image, but .* between black and white") as error:
        dataset.splits["test"][0]
    assert str(first) in str(error.value)
    assert f"{second}: the image cannot be read" in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"held_out": 1.0}, r"`held_out` must be in \(0, 1\)"),
        (
            {"held_out": 0.6},
            "`held_out` must leave a group of boards to train on, but 4 of 6 boards .* take all 2 groups",
        ),
        ({"flawed": "mend"}, "`flawed` must be 'drop' or 'keep', got 'mend'"),
        ({"bad": "ignore"}, "`bad` must be 'refuse' or 'drop', got 'ignore'"),
        ({"crop": 672}, "`crop` must be at most the images' sides, 640 x 640"),
        ({"crop": 300}, "`crop` must be a multiple of 32"),
    ],
)
def test_arguments_without_meaning_are_refused(original, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(original, **arguments)


def test_a_folder_of_something_else_is_refused_with_what_it_holds(tmp_path):
    with pytest.raises(ValueError, match=r"must hold trainval.txt and test.txt, got .*: no such folder.*QAT_DEEPPCB"):
        build(tmp_path / "nowhere")
    (tmp_path / "annotations.json").write_text("{}")
    with pytest.raises(ValueError, match=r"annotations.json. It looks like one for the data set `coco`"):
        build(tmp_path)


def test_a_set_without_boards_for_a_split_is_refused(folder):
    (folder / "PCBData" / "test.txt").write_text("")
    with pytest.raises(ValueError, match=f"got {TRAINVAL} in trainval and 0 in test"):
        build(folder)
