"""Compiled programs are kept for all runners: privately, within bounds, whole, and with the same bits."""

import os
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console
from studies import ARMS, BASE

from qat.lab.experiment.config import override
from qat.lab.jobs import compiling, programs
from qat.lab.jobs.compiling import watched
from qat.lab.jobs.events import Compiling, Progress
from qat.lab.jobs.programs import CHOSEN, kept, tend, variables
from qat.lab.runs.record import read_record
from qat.lab.sweep.run import run_study
from qat.lab.sweep.study import make_study

TINY = override(BASE, {"model": "cnn(width=4)", "train.steps": 3, "train.batch_size": 16, "calibration_batches": 1})


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder of all caches of this test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    for name in [CHOSEN, *(name for name in variables(1) if name in os.environ)]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(programs, "WORTH", 0.0)
    return tmp_path / "caches" / "qat" / "compiled"


def entries(home):
    return sorted(home.rglob("*-cache"))


def compile_some(count=3):
    """Programs that no cache in memory has, and what they give."""
    jax.clear_caches()
    with kept(2):
        return [float(jax.jit(lambda x, i=i: jnp.sin(x * i).sum() + i)(jnp.ones(7))) for i in range(count)]


def test_programs_of_a_user_are_that_users_alone(home, monkeypatch):
    place = Path(variables(2)[CHOSEN])
    assert [path.stat().st_mode & 0o777 for path in (home, place)] == [0o700, 0o700]
    home.chmod(0o777)
    variables(2)
    assert home.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(programs.os, "getuid", lambda: 12345)
    assert variables(2) == {}  # someone else made the folder


def test_programs_for_other_threads_are_apart_and_a_users_choice_stays(home):
    assert variables(1)[CHOSEN] != variables(2)[CHOSEN]
    assert CHOSEN not in variables(1, {**os.environ, CHOSEN: "mine"})
    compile_some()
    (entry, *_) = entries(home)
    entry.write_bytes(b"")
    assert tend({**os.environ, CHOSEN: "mine"}) == []


def test_a_home_that_cannot_be_written_means_no_cache(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.delenv(CHOSEN, raising=False)
    assert variables(2) == {}
    with kept(2):
        assert jax.config.jax_compilation_cache_dir is None
    assert tend() == []


def test_what_was_used_least_recently_goes_where_there_is_too_much(home, monkeypatch):
    for number, folder in enumerate(("old kind", "this kind") * 3):
        path = home / folder / f"{number}-cache"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(programs.zlib.compress(os.urandom(1000)))
        used = path.with_name(f"{number}-atime")
        used.touch()
        os.utime(used, (1000 - number, 1000 - number))  # the last one longest ago
    monkeypatch.setattr(programs, "LIMIT", 4500)
    assert sorted(path.name for path in tend()) == ["4-cache", "5-cache"]
    assert [path.name for path in entries(home)] == ["0-cache", "2-cache", "1-cache", "3-cache"]
    assert not list(home.rglob("5-atime"))


@pytest.mark.parametrize("seen_before", [False, True])
@pytest.mark.parametrize("damage", [lambda content: content[: len(content) // 2], lambda _: b"", "a flipped bit"])
def test_a_damaged_program_is_removed_and_compiled_again(home, damage, seen_before):
    results = compile_some()
    assert tend() == []
    if not seen_before:
        next(home.rglob("digests.json")).unlink()
    spoilt, *whole = entries(home)
    content = bytearray(spoilt.read_bytes())
    if callable(damage):
        content = damage(content)
    else:
        content[len(content) // 2] ^= 4
    spoilt.write_bytes(content)
    assert tend() == [spoilt]
    assert entries(home) == whole
    assert compile_some() == results
    assert entries(home) == [spoilt, *whole]
    assert tend() == []


@pytest.mark.slow
def test_a_sweep_in_this_process_keeps_programs_and_gives_the_same_bits_with_them(home, tmp_path):
    study = make_study("s", TINY, {"arm": {"ptq w8a8": ARMS["ptq w8a8"]}})
    (trial,) = [f"trials/{trial.id}" for trial in study.trials]
    found = []
    for name in ("cold", "warm"):
        jax.clear_caches()
        run_study(study, tmp_path / name, console=Console(quiet=True))
        record = read_record(tmp_path / name / trial)
        assert record is not None
        found.append((record.metrics, (tmp_path / name / trial / "model.safetensors").read_bytes(), entries(home)))
    assert len(found[0][2]) > 10
    assert found[0] == found[1]
    assert jax.config.jax_compilation_cache_dir is None


def test_what_is_compiled_while_nothing_else_is_told_is_told(home, monkeypatch):
    monkeypatch.setattr(compiling, "SILENCE", 0.05)
    monkeypatch.setattr(compiling, "LOOK_EVERY", 0.005)
    jax.clear_caches()
    news = []

    def takes_long_to_compile(x):
        for i in range(60):
            x = jnp.sin(x @ x) + i
        return x

    with kept(2), watched("a job", news.append) as tell:
        tell(Progress("a job", "float", 0, 3, None))
        jax.jit(takes_long_to_compile)(jnp.ones((8, 8))).block_until_ready()
        told = list(news)
        time.sleep(0.2)  # nothing is compiled
    assert news == told
    assert all(isinstance(one, Compiling) and one.what == "float" for one in news[1:])
    (longest,) = {one.program for one in news[1:] if "takes_long" in one.program}
    assert longest == "takes_long_to_compile"
