"""Running statistics of normalisation re-estimated on the quantized network."""

from typing import Any

from qat.core.state import QuantState
from qat.core.statistics import Update, moving, replaced, require_moved, statistics_of
from qat.ptq.method import Batches, Method, Outcome, Subject, register
from qat.ptq.ranges import activation_ranges_anew
from qat.transform import Quantized


@register
def reestimate_bn(ranges: bool = True) -> Method:
    """Give normalisation the statistics of the quantized network: those of unlabelled batches, averaged.

    Rounding changes the mean and the variance of what a layer gives, so the running statistics of the float network
    no longer normalise it; training with quantization re-estimates them on the way, calibration alone never does (Sun
    et al. 2019, arXiv 1909.11623; Li et al. 2021, arXiv 2102.05426, correct them likewise). Each batch gives the mean
    m_b and variance v_b of every normalised value in the simulated training function; with w_b the share of batch b
    in all examples, mean = sum w_b m_b and variance = sum w_b (v_b + m_b**2) - mean**2. With `ranges` the activations'
    ranges are then calibrated anew, the weights keep theirs. Any statistic with an update new = k old + (1 - k) batch
    is found by evaluating that update, whatever module it is of; k is its momentum. Cost: one simulated training
    pass, without gradients, and one calibration pass over the batches.
    """

    def run(subject: Subject, params: Any, state: QuantState, batches: Batches) -> Outcome:
        assert subject.training is not None
        fresh = statistics_of(simulated_update(subject.training, state), params, batches)
        params = replaced(params, fresh.values)
        if ranges:
            state = activation_ranges_anew(subject.q, params, state, batches)
        return Outcome(params, state, tuple(sorted(fresh.values)), fresh.left)

    return Method(run, needs=("training",), check=_check, never_after=("bias_correction",))


def _check(subject: Subject, params: Any, state: QuantState, inputs: tuple[Any, ...]) -> None:
    assert subject.training is not None
    require_moved(subject.training.fn, params, inputs)
    if state.clips:
        moving(simulated_update(subject.training, state), params, inputs)


def simulated_update(training: Quantized, state: QuantState) -> Update:
    """The update of running statistics as the simulated training function makes it."""

    def update(params: Any, inputs: tuple[Any, ...]) -> Any:
        result = training.simulate(params, state, *inputs)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise ValueError(
                "`training` must return (outputs, statistics): outputs and a tree of the running statistics anew, such "
                f'as `module.apply(..., train=True, mutable=["batch_stats"])` gives; got a {type(result).__name__}.'
            )
        return result[1]

    return update
