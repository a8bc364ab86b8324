"""What every test gets: a headless, quiet environment, and room for what it compiles."""

import os

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")


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
