"""What `detect` refuses, and what it says then."""

import json
import shutil

import numpy as np
import pytest
from boards import CLASSES
from detectors import changed, saved

from qat.lab.inspect import detector as detect
from qat.lab.runs.files import SIGNATURE_FILE
from qat.lab.runs.manifest import read_signature, write_signature


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (
            {"categories": [{"id": 1, "name": "filled"}]},
            "has the classes filled, but the detector was trained on filled, hollow",
        ),
        ({"images": []}, "must have one entry for .*0_test.png', but has 0"),
        ({"images": None}, "has no lists of images"),
    ],
    ids=["class map", "image", "format"],
)
def test_annotations_of_something_else_are_refused(runs, files, tmp_path, change, problem):
    content = {"images": [], "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES)], **change}
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=problem):
        detect.detect(runs / "trials" / "float", [files], tmp_path / "out", annotations=tmp_path / "a.json")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("trial", ["float", "ptq"])
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", {"model": "small_detector(width=12)"}),
        (SIGNATURE_FILE, {"classes": 3, "class_names": []}),
        (SIGNATURE_FILE, {"input_shape": [64, 64, 1]}),
    ],
    ids=["width", "class map", "channels"],
)
def test_a_model_that_does_not_fit_its_trial_is_refused(runs, files, tmp_path, trial, name, change):
    folder = changed(runs, tmp_path, trial, name, change)
    with pytest.raises(ValueError, match="One of the files is of another model, width or class map"):
        detect.detect(folder, [files], tmp_path / "out")


def test_another_class_map_beside_it_is_refused(runs, files, tmp_path):
    other = changed(runs, tmp_path, "float", SIGNATURE_FILE, {"class_names": ["hollow", "filled"]})
    with pytest.raises(ValueError, match="must be a detector of the same classes"):
        detect.detect(runs / "trials" / "ptq", [files], tmp_path / "out", compare=other)


def test_folders_that_are_no_trial_of_a_detector_are_refused(runs, files, tmp_path):
    with pytest.raises(ValueError, match=r"is a whole study. Name the folder of one of its trials:\n.*trials/float"):
        detect.detect(runs, [files], tmp_path / "out")
    with pytest.raises(ValueError, match="holds no finished trial"):
        detect.detect(tmp_path, [files], tmp_path / "out")
    other = changed(runs, tmp_path, "float", SIGNATURE_FILE, {"task": "classification"})
    with pytest.raises(ValueError, match="must hold a detector, but its task is classification"):
        detect.detect(other, [files], tmp_path / "out")
    for name in (SIGNATURE_FILE, "model.safetensors"):
        (other / name).unlink()
        with pytest.raises(ValueError, match=f"{name}' is missing. Run the sweep again"):
            detect.load_detector(other)
        write_signature(other, read_signature(runs / "trials" / "float"))


def test_damaged_files_of_a_trial_are_refused(runs, files, tmp_path):
    for name in ("config.json", SIGNATURE_FILE, "model.safetensors", "record.json"):
        folder = tmp_path / name
        shutil.copytree(runs / "trials" / "ptq", folder)
        (folder / name).write_bytes((folder / name).read_bytes()[:40])
        with pytest.raises(ValueError, match="is damaged"):
            detect.load_detector(folder)


@pytest.mark.parametrize("threshold", [-0.1, 1.5])
def test_a_threshold_that_is_no_score_is_refused(runs, files, tmp_path, threshold):
    with pytest.raises(ValueError, match=r"`threshold` must be in \[0, 1\]"):
        detect.detect(runs / "trials" / "float", [files], tmp_path / "out", threshold=threshold)


def test_all_bad_images_are_named_before_anything_is_written(runs, files, tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    saved(tmp_path, "b.png", np.zeros((32, 64)))
    with pytest.raises(ValueError, match=r"(?s)a.png' cannot be used: is not an image.*b.png' is of 64 x 32 pixels"):
        detect.detect(runs / "trials" / "float", [files, tmp_path / "a.png", tmp_path / "b.png"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pictures_do_not_take_the_place_of_images(runs, files, tmp_path):
    shutil.copytree(files, tmp_path / "boards")
    before = {path: path.read_bytes() for path in (tmp_path / "boards").iterdir()}
    with pytest.raises(ValueError, match=r"`out` must be another folder than the images': .*png would be overwritten"):
        detect.detect(runs / "trials" / "float", [tmp_path / "boards"], tmp_path / "boards")
    assert {path: path.read_bytes() for path in (tmp_path / "boards").iterdir()} == before


def test_an_entry_that_stands_twice_is_refused(runs, files, tmp_path):
    images = [{"id": i, "file_name": path.name} for i, path in enumerate(sorted(files.glob("*_test.png")))]
    content = {"images": images, "categories": [{"id": i, "name": name} for i, name in enumerate(CLASSES)]}
    for twice in ("images", "categories"):
        twins = {**content, twice: [*content[twice], {**content[twice][0], "id": 99}]}
        (tmp_path / "a.json").write_text(json.dumps(twins))
        with pytest.raises(ValueError, match=r"one entry for .* but has 2|has the classes filled, hollow, filled"):
            detect.detect(runs / "trials" / "float", [files], tmp_path / "out", annotations=tmp_path / "a.json")


def test_out_must_not_be_a_file(runs, files, tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ValueError, match="`out` must be a folder"):
        detect.detect(runs / "trials" / "float", [files], tmp_path / "out")
