"""Image files as a detector takes them."""

from pathlib import Path

import numpy as np
import pytest
from detectors import ALONE, BOARD, PHOTO, saved
from PIL import Image

from qat import data
from qat.lab.inspect.detector.images import find_images, read_shot
from qat.lab.runs.manifest import signature_of

DEEPPCB = Path(__file__).parents[5] / "shared" / "data" / "DeepPCB"


@pytest.mark.slow
@pytest.mark.skipif(not DEEPPCB.is_dir(), reason="DeepPCB is not in ../shared/data")
def test_a_file_of_deeppcb_is_read_as_the_data_set_does():
    dataset = data.build(f"deeppcb(folder={str(DEEPPCB)!r})")
    name = (DEEPPCB / "PCBData" / "test.txt").read_text().split()[0].removesuffix(".jpg")
    shot = read_shot(DEEPPCB / "PCBData" / f"{name}_test.jpg", signature_of(dataset))
    np.testing.assert_array_equal(shot.image, dataset.splits["test"][0]["image"])


def test_boards_are_found_without_their_templates(tmp_path):
    names = ["a_test.png", "a_temp.png", "b.png", "c_temp.png", "note.txt"]
    for name in names:
        (tmp_path / name).write_text("")
    assert [path.name for path in find_images([tmp_path])] == ["a_test.png", "b.png", "c_temp.png"]
    assert find_images([tmp_path / "b.png", tmp_path / "b.png"]) == [tmp_path / "b.png"]


def test_images_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"there is no .*missing.png"):
        find_images([tmp_path / "missing.png"])
    with pytest.raises(ValueError, match="must name at least one image"):
        find_images([tmp_path])


def test_a_board_is_read_with_the_template_beside_it(tmp_path):
    board, template = np.zeros((64, 64)), np.zeros((64, 64))
    board[:8], template[:4] = 255, 255
    path = saved(tmp_path, "x_test.png", board)
    saved(tmp_path, "x_temp.png", template)
    shot = read_shot(path, BOARD)
    assert shot.image.shape == (64, 64, 2) and shot.image.dtype == np.uint8
    assert shot.image[:, 0, 0].tolist() == [1] * 8 + [0] * 56
    assert shot.image[:, 0, 1].tolist() == [0] * 4 + [1] * 4 + [0] * 56
    np.testing.assert_array_equal(shot.shown, board)


def test_a_template_that_lies_beside_its_board_is_moved_onto_it(tmp_path):
    board = np.kron(np.random.default_rng(0).random((16, 16)) < 0.5, np.ones((4, 4))) * 255
    path = saved(tmp_path, "x_test.png", board)
    saved(tmp_path, "x_temp.png", np.roll(board, 2, axis=0))
    assert not read_shot(path, BOARD).image[..., 1].any()


@pytest.mark.parametrize("given", ["file", "folder", "folder of twins"])
def test_a_template_elsewhere_is_named(tmp_path, given):
    path = saved(tmp_path, "x_test.png", np.zeros((64, 64)))
    (tmp_path / "other").mkdir()
    name = "x_test.png" if given == "folder of twins" else "x_temp.png"
    template = saved(tmp_path / "other", name, np.full((64, 64), 255))
    shot = read_shot(path, BOARD, template if given == "file" else template.parent)
    assert shot.image[..., 1].all()


def test_a_board_without_a_template_is_refused(tmp_path):
    path = saved(tmp_path, "x_test.png", np.zeros((64, 64)))
    with pytest.raises(ValueError, match=r"has no template: .* there is no x_temp.png"):
        read_shot(path, BOARD)
    assert read_shot(path, ALONE).image.shape == (64, 64, 1)


def test_a_template_is_no_board_under_test(tmp_path):
    with pytest.raises(ValueError, match=r"x_temp.png' is a template by its name"):
        read_shot(saved(tmp_path, "x_temp.png", np.zeros((64, 64))), BOARD)


@pytest.mark.parametrize(
    ("pixels", "signature", "problem"),
    [
        (np.zeros((64, 96)), ALONE, "is of 96 x 64 pixels, but the detector was trained on boards of 64 x 64"),
        (np.full((64, 64, 3), (255, 0, 0)), ALONE, "is in colour"),
        (np.full((64, 64), 128), ALONE, "expected a binarised image"),
        (np.zeros((64, 64, 4)), ALONE, "is in colour .mode RGBA."),
        (np.zeros((64, 64)), PHOTO, "is of mode L, but the detector was trained on rgb images"),
    ],
    ids=["size", "colour", "grey levels", "alpha", "mode"],
)
def test_images_of_another_kind_than_in_training_are_refused(tmp_path, pixels, signature, problem):
    with pytest.raises(ValueError, match=problem):
        read_shot(saved(tmp_path, "x.png", pixels), signature)


def test_a_colourless_picture_in_colours_is_a_grey_one(tmp_path):
    path = saved(tmp_path, "x.png", np.repeat(np.eye(64)[..., None] * 255, 3, -1))
    np.testing.assert_array_equal(read_shot(path, ALONE).image[..., 0], np.eye(64))


def test_a_picture_is_converted_on_request(tmp_path):
    path = saved(tmp_path, "x.png", np.full((64, 64), 7))
    assert (read_shot(path, PHOTO, convert=True).image == 7).all()


def test_a_picture_of_more_than_8_bits_is_not_converted(tmp_path):
    path = tmp_path / "x.png"
    Image.fromarray(np.full((64, 64), 40_000, np.uint16)).save(path)
    with pytest.raises(ValueError, match="cannot be converted: expected at most 8 bits a channel, got mode I;16"):
        read_shot(path, PHOTO, convert=True)


def test_a_damaged_or_huge_picture_is_named(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (512, 512, 3), np.uint8)).save(path)
    whole = path.read_bytes()
    second = whole.index(b"IDAT", whole.index(b"IDAT") + 4)
    path.write_bytes(whole[:second] + bytes(4) + whole[second + 4 :])
    with pytest.raises(ValueError, match=r"x.png' cannot be read"):
        read_shot(path, PHOTO)
    path.write_bytes(whole)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"x.png' cannot be used: the image cannot be read: .*decompression bomb"):
        read_shot(path, PHOTO)


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    path = tmp_path / "x.jpg"
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"x.jpg' cannot be used: the image is cut off"):
        read_shot(path, ALONE)
