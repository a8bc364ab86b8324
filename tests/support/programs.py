"""Compiled programs that a test and the processes that it starts share on disk, so that each is compiled once."""

import contextlib

import jax
from jax.experimental.compilation_cache.compilation_cache import reset_cache


def settings(folder):
    """The settings of jax by which programs are kept in `folder`, however short their compilation was."""
    return {"jax_compilation_cache_dir": str(folder), "jax_persistent_cache_min_compile_time_secs": 0.0}


def environment(folder):
    """The same as variables for a process to be started."""
    return {name.upper(): str(value) for name, value in settings(folder).items()}


@contextlib.contextmanager
def kept(folder):
    """What this process compiles meanwhile goes to `folder`, and what is there already is not compiled."""
    before = {name: getattr(jax.config, name) for name in settings(folder)}
    _update(settings(folder))
    try:
        yield
    finally:
        _update(before)


def _update(values):
    for name, value in values.items():
        jax.config.update(name, value)
    reset_cache()  # which was opened, or not, at the first compilation
