"""What every test gets: a headless, quiet environment, and room for what it compiles."""

import os
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

os.environ.setdefault("JAX_PLATFORMS", "cpu")


def pytest_collection_modifyitems(items):
    """Mark as slow what `slow.txt` lists: folders, files, tests, single cases."""
    listed = {line for line in (TESTS / "slow.txt").read_text().splitlines() if not line.startswith("#")}
    for item in items:
        path = item.path.relative_to(TESTS)
        whole = item.nodeid.partition("::")[2]
        names = {f"{path}::{whole}", f"{path}::{whole.partition('[')[0]}", str(path)}
        if listed & (names | {f"{folder}/" for folder in path.parents}):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def room_for_programs():
    """Thousands of programs in one process end in a crash of XLA's compiler."""
    from qat.runtime import make_room

    make_room()


@pytest.fixture
def own(tmp_path):
    """A user's study with a registered part of every kind, beside it; all of them are forgotten afterwards."""
    from ownparts import forgotten, write_own

    with forgotten():
        yield write_own(tmp_path)
