"""The interface of a post-training method, its registry, and `apply`, which composes methods in the order written."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax

from qat.core.calibrate import stream
from qat.core.state import QuantState
from qat.quantizers import quantizers
from qat.registry import Registry, parse_call
from qat.transform import Quantized

Batches = Sequence[tuple[Any, ...]]
"""The inputs of each batch, unlabelled; they can be read again and again."""


@dataclass(frozen=True)
class Subject:
    """The quantized function `q` that methods work on, and what some of them need beside it.

    `training(params, *inputs)` is the same function as it trains, quantized by the same recipe: it returns outputs and
    a tree of running statistics anew, whose leaves have the paths that they have in `params` (Linen's
    `{"batch_stats": ...}`, or an NNX state); other leaves may be among them. `loss(outputs, target)` is a scalar, and
    `targets` holds what it takes for each batch, such as labels. `seed` decides whatever a method draws at random.

    `reference`, which `apply` sets, are the parameters whose float function is the one to come near to: those before
    any method but such as leave the float function equal.
    """

    q: Quantized
    training: Quantized | None = None
    loss: Callable[[Any, Any], jax.Array] | None = None
    targets: Sequence[Any] | None = None
    seed: int = 0
    reference: Any = None


@dataclass(frozen=True)
class Outcome:
    """The result of a method: parameters and state of the same structure, shapes and dtypes as before, and an account.

    `changed` names the sites or parameters that are other than before, `left` those that the method was meant for and
    left as they were, each with the reason; `figures` are numbers worth a record, by name.
    """

    params: Any
    state: QuantState
    changed: tuple[str, ...]
    left: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A post-training method: `run(subject, params, state, batches)` is pure and returns an `Outcome`.

    `needs` names the fields of `Subject` that it cannot do without. `check(subject, params, state, inputs)` raises
    `ValueError`, before any method runs, where the function has nothing that the method works on; `inputs` are those of
    the first batch. Before an experiment trains anything it is asked too, with abstract `params` and an empty state. A
    method that `rounds` chooses on which grid point each weight lies; one that `rescales`
    leaves the float function equal, and so comes before all that change it. `never_after` names methods whose work it
    would undo or do twice.
    """

    run: Callable[[Subject, Any, QuantState, Batches], Outcome]
    needs: tuple[str, ...] = ()
    check: Callable[[Subject, Any, QuantState, tuple[Any, ...]], None] | None = None
    rounds: bool = False
    rescales: bool = False
    never_after: tuple[str, ...] = ()


methods: Registry[Method] = Registry("PTQ method")
"""Post-training methods by name."""
register = methods.register
"""Make a function that returns a `Method` known under its name; use as a decorator."""


@dataclass(frozen=True)
class Step:
    """One method of a composition, as a record keeps it: its text, what it changed and left (see `Outcome`), and its
    seconds."""

    method: str
    changed: tuple[str, ...]
    left: Mapping[str, str]
    figures: Mapping[str, float]
    seconds: float

    def to_data(self) -> dict[str, Any]:
        """Plain values, to be written as JSON."""
        return {**dataclasses.asdict(self), "changed": list(self.changed)}


@dataclass(frozen=True)
class Applied:
    """Parameters and state after all methods, and one `Step` for each."""

    params: Any
    state: QuantState
    steps: tuple[Step, ...]


def apply(
    texts: Sequence[str], subject: Quantized | Subject, params: Any, state: QuantState, batches: Iterable[Any]
) -> Applied:
    """Parameters and state after the methods that `texts` name, such as `"adaround(steps=2000)"`, in that order.

    Each batch is the tuple of the function's inputs, or the one input; of a sequence only those in use are held. Raises
    `ValueError`, before any method runs, for an unknown name, settings that do not fit, an order that cannot work, a
    method without what it needs, or a function without what the method works on.
    """
    subject = Subject(subject) if isinstance(subject, Quantized) else subject
    built = composition(texts)
    _require(built, subject)
    subject.q.check(state)
    inputs = _Streamed(batches) if isinstance(batches, Sequence) else tuple(stream(batches))
    first = next(iter(inputs))
    if subject.targets is not None and len(subject.targets) != len(inputs):
        raise ValueError(f"`targets` must be one a batch, got {len(subject.targets)} for {len(inputs)} batches.")
    for _, method in built:
        if method.check is not None:
            method.check(subject, params, state, first)
    steps, reference = [], params
    for text, method in built:
        started = time.monotonic()
        found = method.run(replace(subject, reference=reference), params, state, inputs)
        _require_same_form(text, (params, state.bare), (found.params, found.state.bare))
        params, state = jax.block_until_ready((found.params, replace(found.state, recipe=state.recipe)))
        reference = params if method.rescales else reference
        seconds = round(time.monotonic() - started, 3)
        steps.append(Step(text, tuple(found.changed), dict(found.left), figures=dict(found.figures), seconds=seconds))
    return Applied(params, state, tuple(steps))


def check_methods(texts: Sequence[str], subject: Subject, params: Any, inputs: tuple[Any, ...]) -> None:
    """Raise `ValueError` for methods that cannot work on a function, as shapes tell; `params` may be abstract."""
    built = composition(texts)
    _require(built, subject)
    for _, method in built:
        if method.check is not None:
            method.check(subject, params, QuantState({}), inputs)


def composition(texts: Sequence[str]) -> list[tuple[str, Method]]:
    """The methods that `texts` name, each with its text, in their order.

    Raises `ValueError` for text that is no sequence of methods, an unknown name, settings that do not fit, and an order
    that cannot work.
    """
    if isinstance(texts, str):
        raise ValueError(f"`ptq` must be a sequence of methods, got the text {texts!r}. Write ({texts!r},).")
    built = [(text, methods.build(text)) for text in texts]
    changing = rounding = None
    for number, (text, method) in enumerate(built):
        spoilt = next((one for one in texts[:number] if parse_call(one)[0] in method.never_after), None)
        if spoilt is not None:
            raise ValueError(f"`ptq`: {text!r} would undo {spoilt!r}, or do its work twice. Put it first.")
        if method.rescales and changing is not None:
            raise ValueError(
                f"`ptq`: {text!r} moves weights between layers, off what {changing!r} before it fitted. Put it first."
            )
        if method.rounds and rounding is not None:
            raise ValueError(f"`ptq`: {text!r} chooses anew the grid points that {rounding!r} chose. Leave one out.")
        changing = changing if method.rescales else text
        rounding = text if method.rounds else rounding
    return built


@dataclass(frozen=True)
class _Streamed(Sequence[tuple[Any, ...]]):
    """A sequence of batches, each as the tuple of the function's inputs, made when it is asked for."""

    batches: Sequence[Any]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(stream(self.batches[index]))
        return next(stream([self.batches[index]]))

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return stream(self.batches)


def _require(built: Sequence[tuple[str, Method]], subject: Subject) -> None:
    for text, method in built:
        missing = [name for name in method.needs if getattr(subject, name) is None]
        if missing:
            given = ", ".join(f"{name}=..." for name in missing)
            raise ValueError(
                f"{text!r} needs more than the quantized function: {', '.join(f'`{name}`' for name in missing)}. "
                f"Give qat.ptq.Subject(q, {given})."
            )
        if method.rounds:
            _refuse_reshaped(text, subject.q)


def _refuse_reshaped(text: str, q: Quantized) -> None:
    """Raise `ValueError` where the chosen grid points would be missed: where weights are rounded after they are
    reshaped, or to odd codes."""
    for spec in q.recipe.weight_specs:
        if spec.grid == "midrise":
            raise ValueError(f"{text!r} knows no grid without zero (grid='midrise'). Leave one of the two out.")
        if quantizers.build(spec.quantizer).reshape is not None:
            raise ValueError(
                f"{text!r} chooses grid points for weights, which quantizer {spec.quantizer!r} reshapes before it "
                "rounds them. Leave one of the two out."
            )


def _require_same_form(text: str, before: Any, after: Any) -> None:
    """Raise `ValueError` where a method changes the structure, a shape or a dtype: the served file must not grow."""

    def form(tree: Any) -> tuple[Any, list[Any]]:
        leaves, structure = jax.tree.flatten(tree)
        return structure, [(jax.typeof(leaf).shape, jax.typeof(leaf).dtype) for leaf in leaves]

    if form(before) != form(after):
        raise ValueError(f"{text!r} returned parameters or a state of another structure, other shapes or dtypes.")
