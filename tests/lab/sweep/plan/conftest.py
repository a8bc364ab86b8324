"""A study of every arm, trained once for all tests of plans and of replays."""

import shutil

import pytest
from jobs import ALL, TINY, run_all

from qat.lab.experiment.config import override
from qat.lab.sweep.study import make_study


@pytest.fixture(scope="session")
def done(tmp_path_factory):
    """A finished study and its folder, to be left as it is."""
    root = tmp_path_factory.mktemp("runs")
    study = make_study("s", override(TINY, {"train.checkpoint_every": 3}), {"arm": ALL})
    assert len(run_all(study, root)) == 10
    return study, root


@pytest.fixture
def copied(done, tmp_path):
    """The folder of that study once more, to be changed."""
    return shutil.copytree(done[1], tmp_path / "runs")
