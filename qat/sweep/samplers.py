"""How a search chooses its next trial, and which trainings it stops: optuna's samplers and pruners by name."""

from typing import TYPE_CHECKING

from qat.registry import Registry

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

samplers: "Registry[BaseSampler]" = Registry("sampler")
pruners: "Registry[BasePruner]" = Registry("pruner")


@samplers.register
def tpe(seed: int, startup: int = 10, candidates: int = 24) -> "BaseSampler":
    """Tree-structured Parzen estimator (Bergstra et al. 2011), after `startup` random trials; it learns what breaks the
    budget too (Watanabe and Hutter 2022, arXiv 2211.14411)."""
    from optuna.samplers import TPESampler

    return TPESampler(n_startup_trials=startup, n_ei_candidates=candidates, seed=seed)


@samplers.register
def random(seed: int) -> "BaseSampler":
    """Every value as likely as any other."""
    from optuna.samplers import RandomSampler

    return RandomSampler(seed)


@pruners.register
def none() -> "BasePruner":
    """Nothing is stopped."""
    from optuna.pruners import NopPruner

    return NopPruner()


@pruners.register
def median(startup: int = 5, warmup_steps: int = 0) -> "BasePruner":
    """Stops what is worse than the median of earlier trials at the same step, `startup` trials and `warmup_steps` steps
    being let through (Golovin et al. 2017)."""
    from optuna.pruners import MedianPruner

    return MedianPruner(startup, warmup_steps)


@pruners.register
def halving(least: int = 1, factor: int = 4) -> "BasePruner":
    """Asynchronous successive halving (Li et al. 2018, arXiv 1810.05934): of those that reach `least` steps, then
    `factor` times as many and so on, one in `factor` goes on."""
    from optuna.pruners import SuccessiveHalvingPruner

    return SuccessiveHalvingPruner(least, factor)
