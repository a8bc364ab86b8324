"""How jax lays out the primitives that hold other jaxprs; the one place that changes when jax changes them.

Written for jax 0.11 and 0.12. `scan` keeps its constant, carry and sliced operands' counts in `ft_in`; `jit` and
remat hold one jaxpr; `custom_jvp_call` and `custom_vjp_call` hold their forward code; `cond` and `while` hold several.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from jax.core import Tracer
from jax.extend.core import Jaxpr, JaxprEqn
from jax.interpreters import partial_eval

CUSTOM = {"custom_jvp_call", "custom_vjp_call", "custom_lin"}
INLINED = {"jit", "pjit", "closed_call", "core_call"} | CUSTOM
REMAT = {"remat2", "remat", "checkpoint"}


def open_jaxpr(jaxpr: Any) -> tuple[Jaxpr, list[Any]]:
    """The jaxpr itself and the constants that its constant variables stand for."""
    if hasattr(jaxpr, "jaxpr"):
        return jaxpr.jaxpr, list(jaxpr.consts)
    return jaxpr, list(getattr(jaxpr, "consts", ()))


def is_jaxpr(value: Any) -> bool:
    """Whether an equation's parameter is a jaxpr."""
    return hasattr(value, "eqns")


def subjaxprs(eqn: JaxprEqn) -> Iterator[tuple[str, Any]]:
    """Every jaxpr among an equation's parameters, with the parameter's name (and its position in a tuple of them)."""
    for name, value in eqn.params.items():
        if is_jaxpr(value):
            yield name, value
        elif isinstance(value, tuple | list):
            yield from ((f"{name}[{i}]", v) for i, v in enumerate(value) if is_jaxpr(v))


@dataclass(frozen=True)
class Scan:
    """A scan's body and how many of its operands are constants, carry and slices."""

    body: Any
    consts: int
    carry: int
    length: int
    reverse: bool
    unroll: int


def scan_layout(eqn: JaxprEqn) -> Scan:
    """The parts of a `scan` equation."""
    p = eqn.params
    if "ft_in" in p:
        consts, carry, _ = (len(group) for group in p["ft_in"].elts)
    else:
        consts, carry = p["num_consts"], p["num_carry"]
    return Scan(p["jaxpr"], consts, carry, p["length"], p["reverse"], p["unroll"])


def branch_platforms(eqn: JaxprEqn) -> tuple[tuple[str, ...] | None, ...] | None:
    """The platforms that each branch of a `platform_dependent` is for (None: others); None of an ordinary `cond`."""
    return eqn.params.get("branches_platforms")


def inlined_jaxpr(eqn: JaxprEqn) -> Any:
    """The single body of a call that can be evaluated in place."""
    return eqn.params["call_jaxpr"] if "call_jaxpr" in eqn.params else eqn.params["jaxpr"]


def bind(eqn: JaxprEqn, args: list[Any]) -> list[Any]:
    """Evaluate one equation as it stands."""
    params = eqn.primitive.get_bind_params(eqn.params)
    if isinstance(params, tuple):  # jax < 0.12 returned the functions apart
        functions, params = params
        out = eqn.primitive.bind(*functions, *args, **params)
    else:
        out = eqn.primitive.bind(*args, **params)
    return list(out) if eqn.primitive.multiple_results else [out]


def with_equations(jaxpr: Any, eqns: list[JaxprEqn]) -> Any:
    """`jaxpr` with other equations; its constants stay."""
    if isinstance(jaxpr, Jaxpr):
        return jaxpr.replace(eqns=eqns)
    return jaxpr.replace(jaxpr=jaxpr.jaxpr.replace(eqns=eqns))  # jax < 0.12 kept the constants around it


def is_literal(atom: Any) -> bool:
    """Whether an equation's operand is a constant written in place."""
    return hasattr(atom, "val")


def used_inputs(jaxpr: Any) -> tuple[Any, list[bool]]:
    """`jaxpr` without dead code, and which of its inputs the rest still reads. Uses jax's own dead-code elimination."""
    inner, _ = open_jaxpr(jaxpr)
    alive, used = partial_eval.dce_jaxpr(inner, [True] * len(inner.outvars))
    return alive, list(used)


def evaluate(jaxpr: Any, args: list[Any], rule: Callable[[int, JaxprEqn, list[Any]], list[Any]]) -> list[Any]:
    """Outputs of `jaxpr`, each equation evaluated by `rule(index, equation, operands)`."""
    inner, consts = open_jaxpr(jaxpr)
    env: dict[Any, Any] = dict(zip(inner.constvars, consts, strict=True))
    env.update(zip(inner.invars, args, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if is_literal(atom) else env[atom]

    for index, eqn in enumerate(inner.eqns):
        operands = [read(v) for v in eqn.invars]
        env.update(zip(eqn.outvars, rule(index, eqn, operands), strict=True))
    return [read(v) for v in inner.outvars]


def closes_over_tracers(jaxpr: Any) -> bool:
    """Whether a jaxpr, or one inside it, holds values of a transformation in progress among its constants."""
    inner, consts = open_jaxpr(jaxpr)
    if any(isinstance(c, Tracer) for c in consts):
        return True
    return any(closes_over_tracers(sub) for eqn in inner.eqns for _, sub in subjaxprs(eqn))
