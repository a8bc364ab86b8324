"""Access to jax's primitives that hold other jaxprs; the only module to change when jax changes them.

Written for jax 0.11 and 0.12. `scan` keeps its constant, carry and sliced operands' counts in `ft_in`; `jit` and
remat hold one jaxpr; `custom_jvp_call` and `custom_vjp_call` hold their forward code; `cond` and `while` hold several.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import KW_ONLY, dataclass
from typing import Any

import jax
from jax.core import Tracer
from jax.extend import source_info_util
from jax.extend.core import Jaxpr, JaxprEqn
from jax.interpreters import partial_eval
from jax.sharding import AxisType, NamedSharding, PartitionSpec

CUSTOM = {"custom_jvp_call", "custom_vjp_call", "custom_lin"}
INLINED = {"jit", "pjit", "closed_call", "core_call"} | CUSTOM
REMAT = {"remat2", "remat", "checkpoint"}


def open_jaxpr(jaxpr: Any) -> tuple[Jaxpr, list[Any]]:
    """The jaxpr itself and the constants that its constant variables stand for."""
    # Equations hold closed jaxprs or open ones, depending on the primitive and on jax's version; callers need not
    # know.
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
    _: KW_ONLY
    length: int
    reverse: bool
    unroll: int


def scan_layout(eqn: JaxprEqn) -> Scan:
    """The parts of a `scan` equation."""
    p = eqn.params
    if "ft_in" in p:
        # Newer versions of jax keep a tree of the three groups of operands in the place of two counts.
        consts, carry, _ = (len(group) for group in p["ft_in"].unpack())
    else:
        consts, carry = p["num_consts"], p["num_carry"]
    return Scan(p["jaxpr"], consts, carry, length=p["length"], reverse=p["reverse"], unroll=p["unroll"])


def branch_platforms(eqn: JaxprEqn) -> tuple[tuple[str, ...] | None, ...] | None:
    """The platforms that each branch of a `platform_dependent` is for (None: others); None of an ordinary `cond`."""
    return eqn.params.get("branches_platforms")


def inlined_jaxpr(eqn: JaxprEqn) -> Any:
    """The single body of a call that can be evaluated in place."""
    return eqn.params["call_jaxpr"] if "call_jaxpr" in eqn.params else eqn.params["jaxpr"]


def abstract(x: Any) -> jax.ShapeDtypeStruct:
    """Shape and dtype of an array, a number or an abstract value."""
    if isinstance(x, jax.ShapeDtypeStruct):
        return x
    aval: Any = jax.typeof(x)
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=getattr(aval, "weak_type", False))


def placed(x: Any) -> jax.ShapeDtypeStruct:
    """`abstract`, with the sharding over explicit axes of a mesh and, inside `shard_map`, the manual axes along which
    the value varies: tracing depends on both."""
    aval: Any = jax.typeof(x) if not isinstance(x, jax.ShapeDtypeStruct) else x
    mesh = getattr(getattr(aval, "sharding", None), "mesh", None)
    # Axes that the compiler manages by itself (`Auto`) are no part of a value's type: a function is traced the same
    # without them.
    if isinstance(x, jax.ShapeDtypeStruct) or mesh is None or set(mesh.axis_types) <= {AxisType.Auto}:
        return abstract(x)
    varying = {name: getattr(aval, name) for name in ("vma", "manual_axis_type") if hasattr(aval, name)}
    weak = getattr(aval, "weak_type", False)
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype, weak_type=weak, sharding=aval.sharding, **varying)


def laid_out_by_xla(fn: Callable[..., Any], *args: Any) -> Any:
    """`fn(*args)` with XLA choosing shardings inside; the result is replicated where an argument has explicit axes."""
    meshes = [getattr(getattr(jax.typeof(x), "sharding", None), "mesh", None) for x in jax.tree.leaves(args)]
    mesh = next((m for m in meshes if m is not None and AxisType.Explicit in m.axis_types), None)
    if mesh is None:
        return fn(*args)
    names = tuple(n for n, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind == AxisType.Explicit)
    with jax.sharding.use_abstract_mesh(mesh):
        # With explicit axes every operation must state the sharding of its result, which code that knows of no mesh
        # cannot do: so the compiler manages the axes while `fn` runs.
        return jax.sharding.auto_axes(fn, axes=names, out_sharding=PartitionSpec())(*args)


def varying(x: Any) -> frozenset[str]:
    """The axes of a mesh along which a value inside `shard_map` may differ."""
    aval: Any = jax.typeof(x)
    return aval.vma if hasattr(aval, "vma") else getattr(aval, "manual_axis_type", aval).varying


def placed_as(x: Any, like: Any) -> Any:
    """The arrays of a tree on the mesh of `like`, varying along the manual axes along which `like` varies; gradients
    are summed over these axes."""
    mesh = jax.typeof(like).sharding.mesh

    def one(leaf: Any) -> Any:
        if mesh != jax.typeof(leaf).sharding.mesh and AxisType.Auto in mesh.axis_types:
            leaf = jax.sharding.reshard(leaf, NamedSharding(mesh, PartitionSpec()))
        # `pcast` makes gradients right: its transpose sums over the axes, along which each device holds a part of the
        # gradient of the same parameter.
        axes = tuple(sorted(varying(like) - varying(leaf)))
        return jax.lax.pcast(leaf, axes, to="varying") if axes else leaf

    return jax.tree.map(one, x)


def bind(eqn: JaxprEqn, args: list[Any]) -> list[Any]:
    """Evaluate one equation unchanged."""
    params = eqn.primitive.get_bind_params(eqn.params)
    if isinstance(params, tuple):  # jax < 0.12 returned the functions apart
        functions, params = params
        out = eqn.primitive.bind(*functions, *args, **params)
    else:
        out = eqn.primitive.bind(*args, **params)
    # `bind` gives a bare value for primitives of one result; callers always zip with `outvars`.
    return list(out) if eqn.primitive.multiple_results else [out]


def with_equations(jaxpr: Any, eqns: list[JaxprEqn]) -> Any:
    """`jaxpr` with other equations and the same constants."""
    if isinstance(jaxpr, Jaxpr):
        return jaxpr.replace(eqns=eqns)
    return jaxpr.replace(jaxpr=jaxpr.jaxpr.replace(eqns=eqns))  # jax < 0.12 kept the constants around it


def is_literal(atom: Any) -> bool:
    """Whether an equation's operand is a literal constant."""
    return hasattr(atom, "val")


def exceeds(length: Any, most: int) -> bool | None:
    """Whether a length is over `most`; None where it is symbolic and its bounds do not decide."""
    try:
        # A symbolic length compares by its bounds, which may not decide.
        return bool(length > most)
    except Exception as error:
        if type(error).__name__ != "InconclusiveDimensionOperation":  # jax does not export it
            raise
        return None


def used_inputs(jaxpr: Any) -> tuple[Any, list[bool]]:
    """`jaxpr` without dead code, and which of its inputs the rest still reads. Uses jax's own dead-code elimination."""
    inner, _ = open_jaxpr(jaxpr)
    alive, used = partial_eval.dce_jaxpr(inner, [True] * len(inner.outvars))
    return alive, list(used)


def _mesh_of(eqn: JaxprEqn) -> contextlib.AbstractContextManager[Any]:
    """The mesh under which an equation was traced, which may differ inside a function (`auto_axes`)."""
    mesh = eqn.ctx.cur_abstract_mesh
    return (
        contextlib.nullcontext() if mesh == jax.sharding.get_abstract_mesh() else jax.sharding.use_abstract_mesh(mesh)
    )


def current_names() -> Any:
    """The stack of name scopes that equations traced now are in."""
    return source_info_util.current_name_stack()


def named(names: Any) -> contextlib.AbstractContextManager[Any]:
    """A context in which equations are traced under exactly this stack of name scopes."""
    return source_info_util.set_name_stack(names)


def evaluate(jaxpr: Any, args: list[Any], rule: Callable[[int, JaxprEqn, list[Any]], list[Any]]) -> list[Any]:
    """Outputs of `jaxpr`, each equation evaluated by `rule(index, equation, operands)` under its own name scopes."""
    inner, consts = open_jaxpr(jaxpr)
    env: dict[Any, Any] = dict(zip(inner.constvars, consts, strict=True))
    env.update(zip(inner.invars, args, strict=True))

    def read(atom: Any) -> Any:
        return atom.val if is_literal(atom) else env[atom]

    # Invariant: `env` has a value for every variable that this equation reads, as jaxprs are in order of evaluation.
    # The index counts equations of this jaxpr alone: with the path of those around it, it is the place by which a
    # site is found again, so evaluation must not skip or reorder any.
    for index, eqn in enumerate(inner.eqns):
        operands = [read(v) for v in eqn.invars]
        # Names tell sites, and operations in profiles, apart: a rewritten function keeps those of the one it is of.
        with _mesh_of(eqn), named(current_names() + eqn.source_info.name_stack):
            env.update(zip(eqn.outvars, rule(index, eqn, operands), strict=True))
    return [read(v) for v in inner.outvars]


def closes_over_tracers(jaxpr: Any) -> bool:
    """Whether a jaxpr, or one inside it, holds values of a transformation in progress among its constants."""
    inner, consts = open_jaxpr(jaxpr)
    if any(isinstance(c, Tracer) for c in consts):
        return True
    return any(closes_over_tracers(sub) for eqn in inner.eqns for _, sub in subjaxprs(eqn))
