"""DeepPCB as it is published: every example as it is in the files."""

from pathlib import Path

import numpy as np
import pytest
from deeppcb_folder import TEST, TRAINVAL, annotations, build, image_file, save

from qat import data
from qat.data.deeppcb import files as deeppcb_files

REAL = Path(__file__).parents[4] / "shared" / "data" / "DeepPCB"


def test_examples_are_what_was_published(original, drawn):
    dataset = build(original, crop=None, align=False)
    rows = max(len(objects.labels) for _, _, objects in drawn)
    for index in range(TEST):
        image, template, objects = drawn[TRAINVAL + index]
        example = dataset.splits["test"][index]
        np.testing.assert_array_equal(example["image"], np.stack([image, image ^ template], -1))
        assert (example["image"].dtype, example["image"].shape) == (np.uint8, dataset.input_shape)
        count = len(objects.labels)
        np.testing.assert_array_equal(example["boxes"][:count], objects.boxes)
        np.testing.assert_array_equal(example["labels"][:count], objects.labels)
        assert example["boxes"].shape == (rows, 4) and not example["boxes"][count:].any()
        assert (example["labels"][count:] == -1).all()
        assert (example["boxes"].dtype, example["labels"].dtype, example["scale"]) == (np.float32, np.int32, 1)


def test_templates_are_moved_onto_their_boards_unless_they_are_to_stay(folder, drawn):
    image, _, _ = drawn[TRAINVAL]
    save(np.roll(image, 5, axis=1), image_file(folder, TRAINVAL, "temp"))
    as_published = build(folder, align=False)
    assert build(folder).fingerprint != as_published.fingerprint
    assert not build(folder).splits["test"][0]["image"][:, :-5, 1].any()
    np.testing.assert_array_equal(as_published.splits["test"][0]["image"][..., 1], image ^ np.roll(image, 5, axis=1))


def test_metadata_names_the_task_and_the_classes(original):
    dataset = build(original)
    assert (dataset.name, dataset.task[:9], dataset.classes) == ("deeppcb", "detection", 6)
    assert dataset.class_names == ("open", "short", "mousebite", "spur", "copper", "pin-hole")


def test_without_templates_the_image_is_the_board_alone_and_no_template_is_needed(original, folder):
    for path in (folder / "PCBData").rglob("*_temp.jpg"):
        path.unlink()
    with_template, alone = build(original), build(folder, template=False)
    assert alone.input_shape == (640, 640, 1)
    example = alone.splits["train"][0]
    np.testing.assert_array_equal(example["image"], with_template.splits["train"][0]["image"][..., :1])
    assert alone.fingerprint == build(original, template=False).fingerprint != with_template.fingerprint


def test_with_a_seed_validation_is_drawn_from_trainval_board_by_board(original):
    def images(seed):
        splits = build(original, seed=seed, held_out=1 / 3).splits
        return {name: {split[i]["image"].tobytes() for i in range(len(split))} for name, split in splits.items()}

    first, again, other = images(0), images(0), images(1)
    assert {name: len(part) for name, part in first.items()} == {"train": 4, "validation": 2, "test": 2}
    assert first == again
    assert first["validation"] != other["validation"] and first["test"] == other["test"]
    assert len(set.union(*first.values())) == TRAINVAL + TEST


def test_training_batches_are_crops_with_their_boxes(original):
    dataset = build(original, crop=320)
    batch = data.Batches(dataset.splits["train"], 4, seed=0, augment=dataset.augment)[0]
    assert batch["image"].shape == (4, 320, 320, 2)
    assert set(np.unique(batch["image"])) == {0, 1}
    assert (batch["labels"] >= 0).any()
    for image, boxes, labels in zip(batch["image"], batch["boxes"], batch["labels"], strict=True):
        for x1, y1, x2, y2 in boxes[labels >= 0].astype(int):
            assert image[y1:y2, x1:x2, 1].any(), "a defect differs from the template"


def test_the_folder_may_be_the_inner_one_or_come_from_the_environment(original, monkeypatch):
    expected = build(original).fingerprint
    assert build(original / "PCBData").fingerprint == expected
    monkeypatch.setenv("QAT_DEEPPCB", str(original))
    assert data.build("deeppcb").fingerprint == expected
    monkeypatch.delenv("QAT_DEEPPCB")
    with pytest.raises(ValueError, match=r"`folder` must name the data, got none.*QAT_DEEPPCB.*`boards`"):
        data.build("deeppcb")


def test_an_empty_annotation_file_is_an_image_without_defects(folder, capfd):
    for index in range(TRAINVAL + TEST):
        annotations(folder, index).write_text("\n" if index % 2 else "")
    example = build(folder).splits["test"][0]
    assert (example["boxes"].shape, example["labels"].tolist()) == ((1, 4), [-1])
    assert capfd.readouterr().err == ""


def test_grey_images_may_be_stored_with_three_channels(folder, original, drawn):
    save(drawn[TRAINVAL][0], image_file(folder, TRAINVAL), "RGB")
    np.testing.assert_array_equal(build(folder).splits["test"][0]["image"], build(original).splits["test"][0]["image"])


def test_the_fingerprint_is_that_of_the_files_and_the_split_and_decodes_nothing(folder, original, monkeypatch):
    monkeypatch.setattr(deeppcb_files, "binary", None)
    expected = build(original).fingerprint
    assert build(folder).fingerprint == expected
    assert build(folder, crop=None).fingerprint == expected
    assert build(folder, seed=1, held_out=0.5).fingerprint != expected
    text = annotations(folder, 0).read_text()
    annotations(folder, 0).write_text(text + "\n1 1 30 30 1")
    changed = build(folder).fingerprint
    annotations(folder, 0).write_text(text)
    image_file(folder, 0).write_bytes(image_file(folder, 0).read_bytes() + b"\0")
    assert len({expected, changed, build(folder).fingerprint}) == 3


@pytest.mark.skipif(not REAL.is_dir(), reason="the published images of DeepPCB are not beside the project")
def test_the_published_images_are_read_as_they_are():
    dataset = build(REAL)
    split = dataset.splits["validation"]
    inside = outside = 0.0
    for index in range(len(split)):
        example = split[index]
        boxes = example["boxes"][example["labels"] >= 0]
        assert len(boxes) and (boxes >= 0).all() and (boxes <= 640).all()
        assert (boxes[:, :2] < boxes[:, 2:]).all()
        mask = np.zeros((640, 640), bool)
        for x1, y1, x2, y2 in boxes.astype(int):
            mask[y1:y2, x1:x2] = True
        inside, outside = inside + example["image"][mask][:, 1].mean(), outside + example["image"][~mask][:, 1].mean()
    assert inside > 5 * outside, "boards differ from their templates where the defects are"
