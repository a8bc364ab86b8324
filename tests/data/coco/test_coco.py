"""Folders of COCO's format: every layout, and boxes that move with their pixels."""

import numpy as np
import pytest
from coco_folder import SIZES, build, change, examples, write
from PIL import Image

from qat import data
from qat.data.images.pictures import FILL


@pytest.mark.parametrize(("size", "mode"), [(320, "RGB"), (128, "L"), ((96, 160), "RGB"), (64, "L")], ids=str)
def test_boxes_are_moved_with_the_pixels(tmp_path, size, mode):
    dataset = build(write(tmp_path / "boards", mode=mode), size=size, symmetry="none")
    height, width = (size, size) if isinstance(size, int) else size
    assert dataset.input_shape == (height, width, len(mode))
    for example in examples(dataset):
        assert example["image"].shape == dataset.input_shape
        assert (example["image"].dtype, example["scale"].dtype) == (np.uint8, np.float32)
        np.testing.assert_allclose(example["image"].max() * example["scale"], 1, rtol=1e-6)
        y, x = np.nonzero((example["image"] > 128).all(-1))
        tight = [x.min(), y.min(), x.max() + 1, y.max() + 1]
        np.testing.assert_allclose(example["boxes"][0], tight, atol=1)  # edges fall between pixels of the new size
        assert example["labels"].tolist()[0] in (0, 1)


def test_small_images_are_not_enlarged_and_large_ones_keep_their_shape(original):
    found = {}
    for example in examples(build(original, size=128)):
        inside = (example["image"] != FILL).any(-1)
        found[tuple(example["boxes"][0].round().astype(int).tolist())] = (inside.any(0).sum(), inside.any(1).sum())
    assert sorted(found.values()) == sorted([(128, 77), (64, 64), (96, 128), (124, 128), (50, 40), (128, 69)])
    assert (6, 5, 38, 26) in found  # of an image that stays as large as it is, to the pixel


def test_classes_are_the_categories_in_the_order_of_their_ids(original):
    dataset = build(original)
    assert (dataset.name, dataset.task[:9], dataset.classes) == ("coco", "detection", 2)
    assert dataset.class_names == ("hole", "scratch")
    labels = {
        tuple(np.round(example["boxes"][0]).astype(int)[:2]): example["labels"][0] for example in examples(dataset)
    }
    assert labels == {(5 + n, 3 + 2 * n): 1 - n % 2 for n in range(len(SIZES))}


def test_splits_that_are_not_there_are_drawn_from_train(original):
    def images(seed):
        splits = build(original, seed=seed, held_out=0.3).splits
        return {name: {split[i]["image"].tobytes() for i in range(len(split))} for name, split in splits.items()}

    first, other = images(0), images(1)
    assert {name: len(part) for name, part in first.items()} == {"train": 2, "validation": 2, "test": 2}
    assert first == images(0) != other
    assert len(set.union(*first.values())) == len(SIZES)


@pytest.mark.parametrize(
    ("names", "counts"),
    [
        (("train", "val", "test"), {"train": 4, "validation": 1, "test": 2}),
        (("train", "valid"), {"train": 3, "validation": 1, "test": 1}),
        (("train", "test"), {"train": 3, "validation": 1, "test": 1}),
    ],
    ids=str,
)
def test_folders_by_split_are_found(tmp_path, names, counts):
    for number, name in enumerate(names):
        count = [4, 1, 2][number]
        file = "_annotations.coco.json" if "valid" in names else "annotations.json"
        write(
            tmp_path / name, SIZES[:count], name=file, images="." if "valid" in names else "images", first=10 * number
        )
    dataset = build(tmp_path)
    assert {name: len(split) for name, split in dataset.splits.items()} == counts


def test_annotation_files_of_other_names_are_named_by_the_user(tmp_path):
    write(tmp_path, SIZES[:4], name="annotations/instances_train2017.json", images="train2017")
    write(tmp_path, SIZES[4:], name="annotations/instances_val2017.json", images="val2017", first=4)
    with pytest.raises(ValueError, match=r"`folder` must hold annotations.json or train/annotations.json"):
        build(tmp_path)
    train, validation = (f"annotations/instances_{part}2017.json" for part in ("train", "val"))
    dataset = build(tmp_path, train=train, validation=validation)
    assert {name: len(split) for name, split in dataset.splits.items()} == {"train": 3, "validation": 2, "test": 1}
    with pytest.raises(ValueError, match="`train`, and what else is named, must be files"):
        build(tmp_path, train=train, validation="annotations/val.json")


def test_boxes_of_crowds_are_left_out_and_counted(folder, capfd):
    def edit(content):
        for entry in content["annotations"][:2]:
            entry["iscrowd"] = 1

    change(folder, edit)
    assert sum((example["labels"] >= 0).sum() for example in examples(build(folder))) == len(SIZES) - 2
    assert "Boxes of crowds left out" in (err := capfd.readouterr().err) and err.strip().endswith(": 2")


@pytest.mark.parametrize("colour", ["grey", "rgb"])
def test_images_of_other_colours_are_converted_on_request(folder, colour):
    for number, mode in enumerate(["L", "P", "RGBA", "1", "LA", "RGB"]):
        path = folder / "images" / f"{number}.png"
        Image.open(path).convert(mode).save(path)
    dataset = build(folder, colour=colour, size=64)
    assert dataset.input_shape[2] == {"grey": 1, "rgb": 3}[colour]
    assert all(example["image"].shape == dataset.input_shape for example in examples(dataset))
    Image.fromarray(np.zeros(SIZES[0][::-1], np.uint16)).save(folder / "images" / "0.png")
    with pytest.raises(ValueError, match="image 100: expected at most 8 bits a channel, got mode I;16"):
        build(folder, colour=colour)


def test_an_image_without_annotations_has_no_objects(folder):
    change(folder, lambda content: content["annotations"].clear())
    assert all(example["labels"].tolist() == [-1] for example in examples(build(folder)))


def test_images_too_many_to_keep_are_decoded_when_asked_for_and_the_same(original):
    kept, decoded = (build(original, memory=memory) for memory in (2.0, 0.0))
    assert kept.fingerprint == decoded.fingerprint
    for a, b in zip(examples(kept), examples(decoded), strict=True):
        for name, value in a.items():
            assert (value.dtype, value.shape) == (b[name].dtype, b[name].shape)
            np.testing.assert_array_equal(value, b[name])


def test_training_batches_are_augmented(original):
    dataset = build(original, size=128, crop=64, mosaic=0.5)
    batch = data.Batches(dataset.splits["train"], 4, seed=0, augment=dataset.augment)[0]
    assert {name: value.shape for name, value in batch.items()} == {
        "image": (4, 64, 64, 3),
        "scale": (4,),
        "boxes": (4, 1, 4),
        "labels": (4, 1),
    }


def test_the_fingerprint_is_that_of_the_annotations_the_files_the_size_and_the_split(original, folder):
    expected = build(original).fingerprint
    assert build(folder).fingerprint == expected
    others = {build(original, size=320).fingerprint, build(original, seed=1).fingerprint}
    path = folder / "images" / "0.png"
    path.write_bytes(path.read_bytes() + b"\0")
    others.add(build(folder).fingerprint)
    change(folder, lambda content: content["annotations"].pop())
    others.add(build(folder).fingerprint)
    assert len(others) == 4 and expected not in others
