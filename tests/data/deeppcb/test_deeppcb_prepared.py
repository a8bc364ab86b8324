"""DeepPCB as tensorflow-datasets prepares it: the examples of the published folder, without TensorFlow."""

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deeppcb_folder import annotations, build, image_file, save, spoil

from qat.data.deeppcb import tfds_builder as deeppcb_builder


@pytest.fixture(scope="module")
def prepared(original, drawn, tmp_path_factory):
    """The data in ArrayRecord files; one image had three channels."""
    published = Path(shutil.copytree(original, tmp_path_factory.mktemp("published") / "DeepPCB"))
    save(drawn[0][0], image_file(published, 0), "RGB")
    folder = tmp_path_factory.mktemp("tfds")
    version = deeppcb_builder.prepare(published, folder)
    assert version == folder / "deeppcb" / "1.1.0"
    return published, folder


@pytest.mark.parametrize("template", [True, False])
def test_prepared_data_give_the_examples_of_the_published_folder_without_tensorflow(prepared, template):
    published, folder = prepared
    expected = build(published, template=template)
    for place in (folder, folder / "deeppcb" / "1.1.0"):
        found = build(place, template=template)
        assert found.fingerprint == expected.fingerprint
        for name, split in expected.splits.items():
            assert len(found.splits[name]) == len(split)
            for index in range(len(split)):
                for field, value in split[index].items():
                    np.testing.assert_array_equal(found.splits[name][index][field], value)
    assert "tensorflow" not in sys.modules


def test_prepared_records_declare_images_boxes_and_labels(prepared, drawn):
    import tensorflow_datasets as tfds

    builder: Any = tfds.builder_from_directory(prepared[1] / "deeppcb" / "1.1.0")
    record = builder.as_data_source(split="trainval")[1]
    image, template, objects = drawn[1]
    np.testing.assert_array_equal(record["test"][..., 0] >= 128, image)
    np.testing.assert_array_equal(record["template"][..., 0] >= 128, template)
    np.testing.assert_array_equal(record["boxes"], objects.boxes)
    assert list(record["labels"]) == objects.labels.tolist()
    assert record["name"] == b"group1/1/1001"


@pytest.mark.parametrize("broken", ["cut", "gone", "other", "earlier"])
def test_prepared_data_that_cannot_be_read_are_refused(prepared, tmp_path, broken):
    folder = Path(shutil.copytree(prepared[1] / "deeppcb" / "1.1.0", tmp_path / "1.1.0"))
    file = next(folder.glob("deeppcb-test*"))
    if broken == "cut":
        file.write_bytes(file.read_bytes()[:1000])
    elif broken == "gone":
        file.unlink()
    elif broken == "earlier":
        metadata = folder / "metadata.json"
        metadata.write_text(metadata.read_text().replace('"names"', '"count"'))
    else:
        info = folder / "dataset_info.json"
        info.write_text(info.read_text().replace('"deeppcb"', '"mnist"'))
    with pytest.raises(ValueError, match=r"`folder` must hold readable prepared data of DeepPCB.*Prepare"):
        build(folder)


def test_preparing_refuses_and_drops_as_reading_does(folder, tmp_path, capfd):
    expected = spoil(folder)
    with pytest.raises(ValueError, match=f"{len(expected)} problems"):
        deeppcb_builder.prepare(folder, tmp_path / "a")
    deeppcb_builder.prepare(folder, tmp_path / "b", bad="drop")
    assert f"{len(expected)} problems" in capfd.readouterr().err
    assert build(tmp_path / "b", held_out=0.5).fingerprint == build(folder, bad="drop", held_out=0.5).fingerprint


def test_what_is_prepared_already_stays_and_that_of_other_files_is_refused(prepared, tmp_path):
    published, folder = prepared
    files = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    deeppcb_builder.prepare(published, folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == files
    other = Path(shutil.copytree(published, tmp_path / "other"))
    annotations(other, 0).write_text("")
    with pytest.raises(ValueError, match="`data_dir` must not hold data of other files"):
        deeppcb_builder.prepare(other, folder)
