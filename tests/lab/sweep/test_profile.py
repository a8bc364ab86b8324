"""Where the time of a sweep goes is told from what runs."""

import time

import jax
import jax.numpy as jnp
import pytest

from qat.lab.jobs import turns
from qat.lab.sweep import profile
from qat.lab.sweep.profile import HOME, KINDS, area_of, kind_of, profiled

JAX = "/somewhere/jax/_src"
INNER = [(f"{JAX}/pjit.py", "cache_miss"), (f"{HOME}/train/loop.py", "advance")]


@pytest.mark.parametrize(
    ("calls", "area", "kind"),
    [
        ([(f"{JAX}/compiler.py", "backend_compile_and_load"), *INNER], "training", "compilation"),
        (
            [(f"{JAX}/array.py", "_value"), *INNER, (f"{HOME}/lab/experiment/training.py", "fit")],
            "training",
            "arithmetic",
        ),
        (
            [(f"{HOME}/core/convert.py", "convert"), (f"{HOME}/lab/experiment/trial.py", "measure")],
            "evaluation",
            "Python",
        ),
        ([(f"{HOME}/lab/report/plot.py", "draw"), (f"{HOME}/lab/cli/sweeps.py", "sweep")], "report", "Python"),
        ([(f"{HOME}/lab/jobs/leases.py", "take")], "files and jobs", "Python"),
        ([("/lib/importlib.py", "load")], "imports and the rest", "Python"),
    ],
)
def test_a_stack_of_calls_has_an_area_and_a_kind(calls, area, kind):
    assert (area_of(calls), kind_of(calls)) == (area, kind)


def test_all_time_is_told_and_of_jobs_that_take_turns_the_one_that_runs(monkeypatch):
    monkeypatch.setattr(profile, "AREAS", (("of a turn", ("test_profile.py",)),))
    monkeypatch.setattr(profile, "HOME", "")
    monkeypatch.setattr(profile, "EVERY", 0.002)

    def sleeps(share) -> None:
        share(1)
        time.sleep(0.2)

    def multiplies(share) -> None:
        share(1)
        jnp.ones((1500, 1500)).dot(jnp.ones((1500, 1500))).block_until_ready()

    start = time.perf_counter()
    with profiled() as found:
        turns.in_turns([sleeps, multiplies], list)
    took = time.perf_counter() - start
    assert sum(found.seconds.values()) == pytest.approx(took, abs=0.1)
    assert found.seconds["of a turn", "Python"] > 0.15
    assert [column.header for column in found.table().columns][1:4] == list(KINDS)


def test_compilation_is_told_apart():
    with profiled() as found:
        jax.jit(lambda x: jnp.linalg.svd(jnp.sin(x) @ x.T)[1].sum())(jnp.ones((7, 7))).block_until_ready()
    assert sum(value for (_, kind), value in found.seconds.items() if kind == "compilation") > 0
