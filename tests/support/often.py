"""Cases of a property of which `make test` runs a few, and `make test-all` the rest."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_after(count: int, cases: Iterable[Any]) -> list[Any]:
    """The cases of a parametrized test: all but the first `count` are slow tests."""
    return [case if i < count else pytest.param(case, marks=pytest.mark.slow) for i, case in enumerate(cases)]
