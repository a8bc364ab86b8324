"""Folders of COCO's format with mistakes: all of them are found, and said where they are."""

import numpy as np
import pytest
from coco_folder import CATEGORIES, SIZES, build, change, examples, spoil, write


def test_all_that_is_wrong_is_refused_at_once_with_file_and_id(folder):
    expected = spoil(folder)
    with pytest.raises(ValueError, match=r"has .* problems") as error:
        build(folder)
    for one in expected:
        assert one in str(error.value)
    assert f"has {len(expected)} problems" in str(error.value)


def test_a_file_may_be_named_by_its_whole_path(folder):
    spoil(folder)
    with pytest.raises(ValueError, match=r"has .* problems"):
        build(folder, train=str((folder / "annotations.json").absolute()))


def test_what_is_wrong_is_dropped_on_request_and_all_of_it_is_listed(folder, tmp_path, capfd):
    expected = spoil(folder)
    for name in ("val", "test"):
        write(folder / name, SIZES[:1], first=20)
    dataset = build(folder, bad="drop", train="annotations.json", validation="val/annotations.json")
    err = capfd.readouterr().err
    assert f"dropped for {len(expected)} problems" in err
    for one in expected:
        assert one in err
    kept = {int(example["boxes"][0][0]): example for example in examples(dataset)}
    assert len(kept) == 3  # images 100 and 103, and the one for validation
    np.testing.assert_array_equal(kept[150]["boxes"][0], [150, 5, 200, 14])


def test_images_that_are_broken_inside_are_named_when_read(folder):
    for path in (folder / "images").iterdir():
        path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"0.png: the image cannot be read"):
        examples(build(folder, memory=2.0))
    with pytest.raises(ValueError, match=r"png: the image cannot be read"):
        examples(build(folder, memory=0.0))


def test_a_class_map_that_differs_between_splits_is_refused(tmp_path):
    write(tmp_path / "train")
    write(tmp_path / "val")
    change(tmp_path / "val", lambda content: content["categories"].append({"id": 9, "name": "dent"}))
    with pytest.raises(ValueError, match="`categories` must be the same in the annotations of all splits"):
        build(tmp_path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda content: content.pop("images"), "must hold annotations in COCO's format, but .* has no lists"),
        (lambda content: content["categories"].append(CATEGORIES[0]), "`categories` of annotations.json must have"),
        (lambda content: content["categories"].append({"id": 8}), "`categories` of annotations.json must have"),
        (lambda content: content["categories"].clear(), "`categories` of annotations.json must have"),
        (lambda content: content["images"].clear() or content["annotations"].clear(), "must hold images for train"),
    ],
)
def test_annotations_that_are_none_are_refused(folder, edit, message):
    change(folder, edit)
    with pytest.raises(ValueError, match=message):
        build(folder)


def test_a_file_that_is_no_json_is_refused_with_its_line(folder):
    (folder / "annotations.json").write_text('{"images": [],\n oops')
    with pytest.raises(ValueError, match=r"readable annotations, but .*annotations.json' is not: .* line 2"):
        build(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"held_out": 0.5}, r"`held_out` must be in \(0, 0.5\)"),
        ({"bad": "ignore"}, "`bad` must be 'refuse' or 'drop', got 'ignore'"),
        ({"size": 100}, "`size` must be a multiple of 32 pixels"),
        ({"size": (64, 100)}, r"two of them as \(height, width\), got \(64, 100\)"),
        ({"size": (64, 96)}, "`symmetry` 'square' needs square images"),
        ({"crop": 672}, "`crop` must be at most the images' sides"),
        ({"colour": "red"}, "`colour` must be 'auto', 'grey' or 'rgb', got 'red'"),
    ],
)
def test_arguments_without_meaning_are_refused(original, arguments, message):
    with pytest.raises(ValueError, match=message):
        build(original, **arguments)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must hold annotations.json .*no such folder"):
        build(tmp_path / "nowhere")
