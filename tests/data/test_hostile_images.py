"""Image files and annotations that are not what they are taken for: refused before anything is decoded."""

import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from qat.data.images.coco_files import read_annotated
from qat.data.images.reading import header, open_image


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height):
    """A PNG that says that it is so large, and holds nothing."""
    about = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", about) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("sides", [(100_000, 100_000), (11_000, 9_500), (2**31 - 1, 1)])
def test_more_pixels_than_any_image_has_are_refused_by_the_header(tmp_path, sides):
    (tmp_path / "a.png").write_bytes(png(*sides))
    assert "cannot be read" in (said := str(header(tmp_path / "a.png"))) and "bomb" in said


def test_more_bytes_than_any_image_has_are_refused_by_the_size(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "a.png")
    monkeypatch.setattr("qat.data.images.reading.MOST_IMAGE_BYTES", 20)
    assert "expected at most 20 bytes" in str(header(tmp_path / "a.png"))


def test_formats_that_other_programs_decode_are_no_images(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path, "EPS")
    with Image.open(path) as image:
        assert image.format == "EPS"  # which PIL hands to Ghostscript
    assert str(header(path)).startswith("is not an image in one of the formats BMP, GIF, JPEG")
    with pytest.raises(OSError, match="cannot identify"):
        open_image(path)


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_usual_formats_are_images(tmp_path, kind):
    Image.fromarray(np.zeros((8, 6, 3), np.uint8)).save(tmp_path / "a", kind)
    assert tuple(header(tmp_path / "a"))[1:3] == (6, 8)


def annotated(folder, image=None, box=None):
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(folder / "0.png")
    content = {
        "images": [{"id": 0, "file_name": "0.png", **(image or {})}],
        "annotations": [{"id": 0, "image_id": 0, "category_id": 0, "bbox": box or [1, 1, 8, 8]}],
        "categories": [{"id": 0, "name": "a"}],
    }
    (folder / "annotations.json").write_text(json.dumps(content))
    return read_annotated(folder / "annotations.json", folder)


@pytest.mark.parametrize("box", [[0, 0, 10**400, 1], [10**400, 0, 1, 1], [1e308, 0, 1e308, 1], [0, 0, "8", 8]])
def test_boxes_beyond_all_numbers_are_wrong_boxes(tmp_path, box):
    (problem,) = annotated(tmp_path, box=box).problems
    assert "annotation 0" in problem.where and len(str(problem)) < 1000


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "/dev/zero", ""])
def test_names_that_no_image_can_have_are_missing_images(tmp_path, name):
    (problem,) = annotated(tmp_path, image={"file_name": name}).problems
    assert "no file" in problem.what


def test_annotations_that_are_nested_or_too_large_are_refused(tmp_path, monkeypatch):
    path = tmp_path / "annotations.json"
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"annotations.json' is not: it is nested too deep"):
        read_annotated(path, tmp_path)
    monkeypatch.setattr("qat.fileio.MOST_BYTES", {"annotations": 100})
    with pytest.raises(ValueError, match=r"annotations.json' is not: expected at most 100 bytes"):
        read_annotated(path, tmp_path)
