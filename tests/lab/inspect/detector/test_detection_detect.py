"""`detect`: a trial's detector on image files, its pictures and its results."""

import json
import shutil

import numpy as np
import pytest
from detectors import ALONE, PHOTO, saved
from PIL import Image

from qat.lab.inspect import detector as detect
from qat.lab.inspect.detector.load import Detector
from qat.tasks.detection.decode import Detections


def fake(signature, boxes=((8, 8, 24, 24),)):
    """A detector that finds these boxes on everything."""
    count = len(boxes)
    found = Detections(np.array(boxes, np.float32), np.full(count, 0.9, np.float32), np.zeros(count, np.int32))  # pyright: ignore[reportArgumentType]
    return Detector("fake", signature, 0.5, lambda image: found)


@pytest.mark.parametrize("trial", ["float", "ptq"])
def test_results_are_what_the_trial_was_measured_with(runs, files, tmp_path, trial):
    done = detect.detect(runs / "trials" / trial, [files], tmp_path / "out")
    stored = np.load(runs / "trials" / trial / "examples.npz")
    rows = json.loads(done.results.read_text())
    for i in range(6):
        mine = [row for row in rows if row["file_name"] == f"{i}_test.png"]
        there = stored["labels"][i] >= 0
        assert [row["image_id"] for row in mine] == [i + 1] * len(mine)
        np.testing.assert_allclose([row["score"] for row in mine], stored["scores"][i][there], atol=1e-3)
        corners = np.array([row["bbox"] for row in mine])
        corners[:, 2:] += corners[:, :2]
        np.testing.assert_allclose(corners, stored["boxes"][i][there], atol=0.5)
        assert {row["category_id"] for row in mine} <= {1, 2}


def test_there_is_a_picture_of_each_board_and_none_of_a_template(runs, files, tmp_path):
    told = []
    done = detect.detect(
        runs / "trials" / "ptq", [files], tmp_path, threshold=0.1, report=lambda *progress: told.append(progress)
    )
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [f"{i}_test.png" for i in range(6)]
    assert told == [(i, 6) for i in range(1, 7)]
    assert done.differing == [0] * 6
    rows = json.loads(done.results.read_text())
    assert done.counts == [sum(row["image_id"] == i and row["score"] >= 0.1 for row in rows) for i in range(1, 7)]


def test_every_image_has_a_picture_of_its_own(runs, files, tmp_path):
    boards = [tmp_path / name for name in ("one/a-2.png", "one/a.png", "two/a.png")]
    for board in boards:
        board.parent.mkdir(exist_ok=True)
        shutil.copy(files / "0_test.png", board)
    done = detect.detect(runs / "trials" / "ptq", boards, tmp_path / "out", template=files / "0_temp.png")
    assert len(set(done.pictures)) == len(list((tmp_path / "out").glob("*.png"))) == 3


@pytest.mark.parametrize("compared", ["float", "trial"])
def test_the_float_model_can_be_drawn_beside_it(runs, files, tmp_path, compared):
    other = "float" if compared == "float" else runs / "trials" / "float"
    done = detect.detect(runs / "trials" / "ptq", [files / "0_test.png"], tmp_path, compare=other)
    with Image.open(done.pictures[0]) as picture:
        assert picture.width > 2 * picture.height * 0.9


def test_a_model_beside_itself_does_not_differ(runs, files, tmp_path):
    model = runs / "trials" / "ptq"
    assert sum(detect.detect(model, [files], tmp_path, compare=model, threshold=0.05).differing) == 0


def test_the_default_threshold_is_that_of_the_trials_best_f_score(runs, files, tmp_path):
    record = json.loads((runs / "trials" / "float" / "record.json").read_text())
    done = detect.detect(runs / "trials" / "float", [files], tmp_path)
    assert done.threshold == record["metrics"]["f33_threshold"]


def test_neither_the_data_nor_the_rest_of_the_study_is_needed(runs, files, tmp_path, monkeypatch):
    monkeypatch.setattr("qat.data.load", lambda name: pytest.fail("asked for the data"))
    shutil.copytree(runs / "trials" / "ptq", tmp_path / "alone")
    assert detect.detect(tmp_path / "alone", [files], tmp_path / "out").results.exists()
    with pytest.raises(ValueError, match="Name the folder of a float trial instead"):
        detect.detect(tmp_path / "alone", [files], tmp_path / "out", compare="float")


def test_ids_are_those_of_an_annotation_file(runs, files, tmp_path):
    content = {
        "images": [{"id": 70 + i, "file_name": f"{i}_test.png"} for i in range(6)],
        "categories": [{"id": 30, "name": "hollow"}, {"id": 20, "name": "filled"}],
    }
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    done = detect.detect(runs / "trials" / "float", [files], tmp_path, annotations=tmp_path / "annotations.json")
    rows = json.loads(done.results.read_text())
    assert {row["image_id"] for row in rows} == set(range(70, 76))
    assert {row["category_id"] for row in rows} <= {20, 30}


def test_files_of_one_name_get_pictures_of_their_own(tmp_path, monkeypatch):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        saved(tmp_path / name, "board.png", np.zeros((64, 64)))
    monkeypatch.setattr("qat.lab.inspect.detector.run.load_detector", lambda folder, **_: fake(ALONE))
    done = detect.detect(tmp_path, [tmp_path / "a", tmp_path / "b"], tmp_path / "out")
    assert [path.name for path in done.pictures] == ["board-1.png", "board-2.png"]


def test_boxes_on_a_photograph_are_in_pixels_of_its_file(tmp_path, monkeypatch):
    path = saved(tmp_path, "large.png", np.zeros((256, 128, 3)))
    monkeypatch.setattr("qat.lab.inspect.detector.run.load_detector", lambda folder, **_: fake(PHOTO))
    done = detect.detect(tmp_path, [path], tmp_path / "out")
    assert json.loads(done.results.read_text())[0]["bbox"] == [32, 32, 64, 64]
