"""Results that others take the place of are moved aside, wherever the disks are."""

import errno
import os
import shutil

import pytest
from run_folders import make_runs

from qat.lab.jobs.log import LOG_FILE
from qat.lab.runs.files import SUPERSEDED
from qat.lab.runs.finished import set_aside


@pytest.fixture
def one_disk_each(monkeypatch):
    """Every folder of the run is a file system of its own, as far as renaming goes."""
    rename = os.rename

    def within_a_folder(source, target, **more):
        if os.path.dirname(source) != os.path.dirname(target):  # noqa: PTH120
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), source, None, target)
        rename(source, target, **more)

    monkeypatch.setattr(os, "rename", within_a_folder)


@pytest.mark.usefixtures("one_disk_each")
def test_trials_on_another_file_system_are_set_aside_too(tmp_path):
    (trial,) = make_runs(tmp_path, 1, seeds=1)
    place, kept = tmp_path / "trials" / trial, tmp_path / "before"
    (place / "a folder").mkdir()
    (place / "a folder" / "file").write_text("in it")
    shutil.copytree(place, kept)
    with (place / LOG_FILE).open("a") as log:
        log.write("of the job that begins\n")
        log.flush()
        set_aside(tmp_path, place, trial, "another key")
        log.write("and goes on\n")
    (moved,) = (tmp_path / SUPERSEDED).iterdir()
    assert sorted(path.relative_to(moved) for path in moved.rglob("*")) == sorted(
        path.relative_to(kept) for path in kept.rglob("*")
    )
    assert all(
        path.read_bytes() == (kept / path.relative_to(moved)).read_bytes()
        for path in moved.rglob("*")
        if path.is_file()
    )
    assert [path.name for path in place.iterdir()] == [LOG_FILE]
    assert (place / LOG_FILE).read_text() == "of the job that begins\nand goes on\n"
