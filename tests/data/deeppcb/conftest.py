"""Drawn boards, and folders of them in the layout of DeepPCB."""

import shutil
from pathlib import Path

import pytest
from deeppcb_folder import draw, write


@pytest.fixture(scope="session")
def drawn():
    """Boards, their templates and their defects."""
    return draw()


@pytest.fixture(scope="session")
def original(drawn, tmp_path_factory):
    """A folder in the layout of DeepPCB, to be left as it is."""
    folder = tmp_path_factory.mktemp("original")
    write(folder, drawn)
    return folder


@pytest.fixture
def folder(original, tmp_path):
    """A copy to spoil."""
    return Path(shutil.copytree(original, tmp_path / "DeepPCB"))
