"""The one form in which everything else sees a model: three pure functions of variables and inputs.

A builder that is registered with `qat.models.register` may return any of

    a Linen module                def mine(classes: int) -> flax.linen.Module
    an NNX module                 def mine(classes: int, rngs: nnx.Rngs) -> nnx.Module
    a pair of functions           init(key, *inputs) -> params   and   apply(params, *inputs, key) -> outputs
    the three functions           Forward(init, training, inference)

and `forward("mine(width=32)", classes=10)` makes the last one of it. Variables are nested dicts of arrays: `params`,
which trains, and beside it the collections that training updates without gradients, such as `batch_stats`.
"""

import functools
import inspect
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from flax import errors, nnx
from flax import linen as nn
from flax.traverse_util import unflatten_dict

from qat.models import models
from qat.models.arguments import KEYS, accepted, takes_keys
from qat.registry import forgotten_on_change
from qat.train.feed import describe, differences

type Path = tuple[Any, ...]

FORMS = (
    "a Linen module; an NNX module, whose builder takes `rngs`; a pair of functions `init(key, *inputs)` and "
    "`apply(params, *inputs, key)`; or `qat.models.adapter.Forward(init, training, inference)`"
)
FLAGS = {"train": True, "training": True, "is_training": True, "deterministic": False, "use_running_average": False}
"""Arguments of a module that say whether it trains, with their values where it does."""
SOWN = "What is sown to be looked at belongs into `intermediates`; return what the loss needs as an output."
STATES = {"batch_stats": nnx.BatchStat, "state": ...}
"""Collections of an NNX module's variables beside its parameters: what is of a type goes to the first that takes it."""


@dataclass(frozen=True)
class Forward:
    """The functions of a model.

    `init(key, *inputs)` gives the variables, a dict of collections. `training(variables, *inputs, key)` gives the
    outputs and the collections that changed, the key being that of dropout and all else that is random.
    `inference(variables, *inputs)` gives the outputs alone, the same at every call. `vocabulary` is how many rows the
    embedding of tokens has, where the model tells.
    """

    init: Callable[..., Any]
    training: Callable[..., tuple[Any, Any]]
    inference: Callable[..., Any]
    vocabulary: int | None = None


@forgotten_on_change
@functools.lru_cache
def forward(model: str, **offered: Any) -> Forward:
    """The functions of a registered model, whose builder gets what it takes of the sizes that a data set offers; the
    same objects at every call.

    Raises `ValueError` for a size that is wanted and not offered, and for what is none of the accepted forms.
    """
    build = functools.partial(models.build, model, **accepted(model, offered))
    if takes_keys(model):
        return _of_nnx(model, build)
    made = build()
    if isinstance(made, Forward):
        return made
    if isinstance(made, nn.Module):
        return _of_linen(made)
    if isinstance(made, tuple) and len(made) == 2 and all(map(callable, made)):
        return _of_functions(*made)
    raise ValueError(_no_form(model, made))


def check_forward(functions: Forward, *inputs: Any) -> Any:
    """Shapes and dtypes of the variables; `inputs` may be abstract, and nothing is computed.

    Raises `ValueError` for variables that are no nested dicts of arrays or without parameters to train, for random
    numbers in inference, and for a training that gives collections of another structure than it was given.
    """
    key = jax.random.key(0)
    variables = jax.eval_shape(functions.init, key, *inputs)
    _check_variables(variables)
    jax.eval_shape(functions.inference, variables, *inputs)
    made = jax.eval_shape(functions.training, variables, *inputs, key)
    if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[1], Mapping)):
        raise ValueError("a model's `training` must return (outputs, collections that changed), a pair with a dict.")
    before, after = describe(variables), describe({**variables, **made[1]})
    if before != after:
        raise ValueError(
            f"a model must keep the structure of its variables in training: {differences(before, after)}. {SOWN}"
        )
    return variables


def _of_linen(module: nn.Module) -> Forward:
    training_flags, inference_flags = _flags(module)

    def init(key: jax.Array, *inputs: Any) -> Any:
        return nn.meta.unbox(dict(module.init(key, *inputs, **inference_flags)))

    def training(variables: Any, *inputs: Any) -> tuple[Any, Any]:
        *rest, key = inputs
        # A stream that has no key of its own, such as that of stochastic depth, draws from `params`.
        rngs = {"dropout": key, "params": jax.random.fold_in(key, 1)}
        mutable = [name for name in variables if name != "params"]
        outputs, updated = module.apply(variables, *rest, mutable=mutable, rngs=rngs, **training_flags)
        return outputs, dict(updated)

    def inference(variables: Any, *inputs: Any) -> Any:
        try:
            return module.apply(variables, *inputs, **inference_flags)
        except errors.ModifyScopeVariableError as error:
            # To write and then drop it would not do: the outputs of an example could depend on its batch.
            raise ValueError(_writes(str(error))) from None
        except errors.InvalidRngError as error:
            raise ValueError(_random(str(error))) from None

    return Forward(init, training, inference, _vocabulary(module))


def _of_nnx(model: str, build: Callable[..., Any]) -> Forward:
    """A module is split into parameters, other state and keys; these are made from the key of each step."""

    def checked() -> nnx.Module:
        made = build(rngs=nnx.Rngs(0))
        if not isinstance(made, nnx.Module):
            raise ValueError(_no_form(model, made))
        return made

    abstract = nnx.eval_shape(checked)
    graph, params, keys, _, *states = _split(abstract)
    like = {"params": params, **{name: state for name, state in zip(STATES, states, strict=True) if state}}
    training_flags, inference_flags = _flags(abstract)

    def whole(variables: Any, made: Any) -> Any:
        return nnx.merge(graph, *(_filled(state, variables[name]) for name, state in like.items()), made)

    def collections(module: Any) -> dict[str, Any]:
        _, params, _, _, *states = _split(module)
        found = dict(zip(("params", *STATES), (params, *states), strict=True))
        return {name: _tree(state) for name, state in found.items() if state}

    def init(key: jax.Array, *inputs: Any) -> Any:
        del inputs
        return collections(build(rngs=nnx.Rngs(key)))

    def training(variables: Any, *inputs: Any) -> tuple[Any, Any]:
        *rest, key = inputs
        module = whole(variables, _keys(keys, key))
        module.train()
        own = {KEYS: nnx.Rngs(jax.random.fold_in(key, 0))} if KEYS in training_flags else {}
        outputs = module(*rest, **{**training_flags, **own})
        return outputs, {name: part for name, part in collections(module).items() if name != "params"}

    def inference(variables: Any, *inputs: Any) -> Any:
        with jax.ensure_compile_time_eval():
            still = _keys(keys, jax.random.key(0))
        module = whole(variables, still)
        module.eval()
        before = {path: one.get_value() for path, one in _carried(module).items()}
        outputs = module(*inputs, **inference_flags)
        for path, one in _carried(module).items():
            if path not in before or one.get_value() is not before[path]:
                refusal = _random if isinstance(one, nnx.RngState) else _writes
                raise ValueError(refusal("/".join(map(str, path))))
        return outputs

    return Forward(init, training, inference, _vocabulary(abstract))


def _of_functions(first: Callable[..., Any], apply: Callable[..., Any]) -> Forward:
    takes_key = "key" in inspect.signature(apply).parameters

    def init(key: jax.Array, *inputs: Any) -> Any:
        leaves = jax.tree_util.tree_leaves_with_path(first(key, *inputs))
        return {"params": unflatten_dict({_names(path): leaf for path, leaf in leaves})}

    def params_of(variables: Any, inputs: tuple[Any, ...]) -> Any:
        """The parameters in their own containers, such as lists, which the variables have dicts for."""
        like = jax.eval_shape(first, jax.random.key(0), *inputs)
        return jax.tree_util.tree_map_with_path(lambda path, _: _at(variables["params"], _names(path)), like)

    def training(variables: Any, *inputs: Any) -> tuple[Any, Any]:
        *rest, key = inputs
        return apply(params_of(variables, tuple(rest)), *rest, **({"key": key} if takes_key else {})), {}

    def inference(variables: Any, *inputs: Any) -> Any:
        return apply(params_of(variables, inputs), *inputs, **({"key": None} if takes_key else {}))

    return Forward(init, training, inference)


def _flags(module: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The flags that a module takes at a call, where it trains and where it does not."""
    takes = inspect.signature(type(module).__call__).parameters
    training = {name: value for name, value in FLAGS.items() if name in takes}
    keys = {KEYS: None} if KEYS in takes else {}
    return {**training, **keys}, {**{name: not value for name, value in training.items()}, **keys}


def _split(module: Any) -> tuple[Any, ...]:
    """The graph, and the state of each kind: parameters, keys, what was sown, and `STATES`."""
    return nnx.split(module, nnx.Param, nnx.RngState, nnx.Intermediate, *STATES.values())


def _carried(module: Any) -> dict[Path, Any]:
    """The variables by path that a call may change: all but parameters and what is sown to be looked at."""
    kinds = nnx.Not(nnx.Any(nnx.Param, nnx.Intermediate))
    return dict(nnx.to_flat_state(nnx.state(module, kinds)))


def _keys(like: Any, key: jax.Array) -> Any:
    """The state of a module's streams of random numbers, each begun anew from `key`."""
    made = []
    for number, (path, one) in enumerate(nnx.to_flat_state(like)):
        shape = one.get_value().shape
        if isinstance(one, nnx.RngCount):
            made.append((path, one.replace(jnp.zeros(shape, jnp.uint32))))
        else:
            own = jax.random.fold_in(key, number)
            made.append((path, one.replace(jax.random.split(own, shape) if shape else own)))
    return nnx.from_flat_state(made)


def _tree(state: Any) -> Any:
    """The arrays of an NNX state as nested dicts; places in a list are named by their number."""
    return unflatten_dict({tuple(map(str, path)): one.get_value() for path, one in nnx.to_flat_state(state)})


def _filled(like: Any, tree: Any) -> Any:
    """The inverse of `_tree`: a state of the structure of `like`, with the arrays of nested dicts."""
    pairs = nnx.to_flat_state(like)
    return nnx.from_flat_state([(path, one.replace(_at(tree, tuple(map(str, path))))) for path, one in pairs])


def _at(tree: Any, names: Path) -> Any:
    return functools.reduce(operator.getitem, names, tree)


def _names(path: Path) -> Path:
    """The keys of nested dicts for a leaf's path; a tree that is one array is named `w`."""
    return tuple(jax.tree_util.keystr((part,), simple=True) for part in path) or ("w",)


def _vocabulary(module: Any) -> int | None:
    rows = getattr(module, "vocabulary", None)
    return rows if isinstance(rows, int) else None


def _check_variables(variables: Any) -> None:
    if not (isinstance(variables, dict) and isinstance(variables.get("params"), dict)):
        raise ValueError("a model's `init` must give a dict of collections, one of them the dict `params`.")
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        names = [part.key if isinstance(part, jax.tree_util.DictKey) else None for part in path]
        if not all(isinstance(name, str) and "/" not in name for name in names):
            leaf_path = jax.tree_util.keystr(path)
            raise ValueError(f"variables must be nested dicts whose keys are text without '/', got {leaf_path}. {SOWN}")
        if names[0] == "params" and not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ValueError(
                f"`params` must hold floating-point arrays, got {leaf.dtype} at {'/'.join(map(str, names))}. "
                "Put what does not train into another collection, such as `state`."
            )


def _no_form(model: str, made: Any) -> str:
    rngs = " without `rngs`, so that every seed would start from the same weights" * isinstance(made, nnx.Module)
    return f"model {model!r} must be {FORMS}; its builder returned a {type(made).__name__}{rngs}."


def _writes(shown: str) -> str:
    return (
        f"a model must change none of its variables in inference, but this one does ({shown}). Have it take `train` or "
        "`deterministic`, or write where `self.is_mutable_collection(name)` alone."
    )


def _random(shown: str) -> str:
    return (
        f"a model must draw no random numbers in inference, but this one does ({shown}). Have it take `train` or "
        "`deterministic`, and leave dropout out where it does not train."
    )
