"""What workers get of a machine: cores, accelerators, and a cache of compiled programs."""

from qat.lab.jobs import machine


def cores_of(monkeypatch, number, **given):
    """How many cores each worker has on a machine of so many."""
    monkeypatch.setattr(machine, "cores", lambda: list(range(number)))
    monkeypatch.setattr(machine, "accelerators", list)
    return [len(slot.cores) for slot in machine.slots(given.get("workers"), given.get("threads"))]


def test_workers_share_out_the_cores(monkeypatch):
    assert cores_of(monkeypatch, 2) == [1, 1]
    assert cores_of(monkeypatch, 64) == [8] * 8
    assert cores_of(monkeypatch, 12, workers=2) == [6, 6]
    assert cores_of(monkeypatch, 12, threads=1) == [1] * 12
    assert cores_of(monkeypatch, 2, threads=8) == [2]
    assert cores_of(monkeypatch, 2, workers=5) == [1] * 5


def test_cores_are_not_shared_while_there_are_enough(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: [0, 1, 2, 5, 7])
    monkeypatch.setattr(machine, "accelerators", list)
    assert [slot.cores for slot in machine.slots(None, 2)] == [(0, 1), (2, 5)]
    assert [slot.cores for slot in machine.slots(3, 2)] == [(0, 1), (2, 5), (0, 7)]


def test_each_worker_has_an_accelerator_or_a_part_of_one(monkeypatch):
    monkeypatch.setattr(machine, "cores", lambda: list(range(16)))
    monkeypatch.setattr(machine, "accelerators", lambda: ["0", "1"])
    alone, shared = machine.slots(None, None), machine.slots(4, None)
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in alone] == ["0", "1"]
    assert [slot.environment["CUDA_VISIBLE_DEVICES"] for slot in shared] == ["0", "1", "0", "1"]
    assert shared[0].environment["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.450"


def test_accelerators_that_jax_would_not_use_are_none(monkeypatch):
    monkeypatch.setattr(machine.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, 5")
    monkeypatch.setenv("JAX_PLATFORMS", "cuda,cpu")
    assert machine.accelerators() == ["3", "5"]
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    assert machine.accelerators() == []
