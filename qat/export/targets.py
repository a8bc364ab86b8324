"""Target profiles: the quantization that each runtime computes in integers, and the recipe that suits it."""

from dataclasses import dataclass
from typing import Literal

from qat.recipes.presets import recipe
from qat.recipes.recipe import QuantRecipe
from qat.registry import Registry, did_you_mean, parse_call

Kind = Literal["conv", "depthwise conv", "dense", "product", "embedding", "add"]
"""A site by what a runtime makes of it: `product` is one of two activations, as in attention."""

KINDS: tuple[Kind, ...] = ("conv", "depthwise conv", "dense", "product", "embedding", "add")
ANY_GRID = ("symmetric", "affine", "unsigned")


@dataclass(frozen=True, kw_only=True)
class Target:
    """The quantization that a runtime on a device computes in integers.

    `codes` is the type of activations there and `grids` their kinds; `weights` are the granularities of scales of
    symmetric weights. `kinds` are the sites with an integer kernel, and `float_results` those of them that may hand on
    floats: any other fuses only where all that reads it takes integers. `adds` says that an addition of floats keeps
    the sites before it from fusing. `widths` are the bits in which codes are stored; other codes take the next wider.
    `dynamic` are the granularities of ranges that it finds at each call. `weight_only` are the bits of weights that it
    multiplies with float activations, `groups` says whether these may have a scale for each group. `norms` says that a
    scale and shift after a site, as of a batch norm, fuses into it as it stands.
    """

    name: str
    codes: Literal["uint8", "int8"]
    grids: tuple[str, ...] = ANY_GRID
    weights: tuple[str, ...] = ("tensor", "channel")
    kinds: tuple[Kind, ...] = KINDS
    float_results: tuple[Kind, ...] = ()
    adds: bool = True
    widths: tuple[int, ...] = (8,)
    dynamic: tuple[str, ...] = ()
    weight_only: tuple[int, ...] = ()
    groups: bool = False
    norms: bool = False
    power_of_two: bool = False


targets: Registry[Target] = Registry("target")
register = targets.register


def build(name: str) -> Target:
    """The profile of a target such as `ort-cpu`. Raises `ValueError` for an unknown name, with the known ones."""
    known = names()
    if str(name).replace("_", "-") in known:
        return targets.build(name.replace("-", "_"))
    raise ValueError(f"Unknown target {name!r}. Known: {', '.join(known)}.{did_you_mean(str(name), known)}")


def names() -> list[str]:
    """The known targets, sorted."""
    return [name.replace("_", "-") for name in targets.names()]


@register
def ort_cpu() -> Target:
    """`ort-cpu`: ONNX Runtime on x86 CPUs (ONNX Runtime, "Quantize ONNX models", 2025: U8S8 is the fast form; QDQ nodes
    on both sides of a node select its QLinear operator, a Gemm or MatMul may keep a float result)."""
    return Target(
        name="ort-cpu",
        codes="uint8",
        float_results=("dense", "product", "embedding"),
        weight_only=(4, 8),
        groups=True,
        widths=(8,),
    )


@register
def openvino_cpu() -> Target:
    """`openvino-cpu`: OpenVINO on x86 CPUs (OpenVINO, "Low precision transformations", 2024: u8 or i8 activations,
    symmetric i8 weights, dequantization moved behind each operation, where a scale and shift joins it)."""
    return Target(
        name="openvino-cpu",
        codes="uint8",
        float_results=KINDS,
        adds=False,
        weight_only=(4, 8),
        groups=True,
        norms=True,
    )


@register
def tensorrt() -> Target:
    """`tensorrt`: NVIDIA TensorRT with explicit Q and DQ (NVIDIA, "Working with quantized types", TensorRT 10, 2024:
    symmetric int8 alone, weights per tensor or channel, the residual input of an addition quantized, a batch norm
    fused as it stands; INT4 weights in blocks for weight-only products)."""
    return Target(
        name="tensorrt",
        codes="int8",
        grids=("symmetric",),
        kinds=("conv", "depthwise conv", "dense", "product", "add"),
        float_results=KINDS,
        weight_only=(4,),
        groups=True,
        norms=True,
    )


@register
def litert_cpu() -> Target:
    """`litert-cpu`: LiteRT with XNNPACK (Google, "LiteRT 8-bit quantization specification", 2025: int8 activations with
    a zero point, per tensor; symmetric int8 weights per channel; every operator reads and gives int8, but for
    products of dynamic range)."""
    return Target(name="litert-cpu", codes="int8", dynamic=("tensor", "token"), weight_only=(4, 8), widths=(4, 8))


@register
def edgetpu() -> Target:
    """`edgetpu`: Coral Edge TPU (Google, "TensorFlow models on the Edge TPU", 2020: LiteRT models that are 8-bit
    throughout, of static shapes; of its list of operators convolutions, dense layers and additions concern us)."""
    return Target(name="edgetpu", codes="int8", kinds=("conv", "depthwise conv", "dense", "add"))


@register
def tpu() -> Target:
    """`tpu`: XLA on TPUs (Google, "Accurate Quantized Training", 2023, multiplies symmetric int8 there): the served
    function as it is, with rescaling in float. A zero point costs sums of codes beside each product."""
    return _xla("tpu")


@register
def gpu_xla() -> Target:
    """`gpu-xla`: XLA on NVIDIA GPUs (OpenXLA, GPU compiler, 2025: int8 matrix products by cuBLASLt, no convolution with
    an int32 sum): the served function as it is, with convolutions as products of their taps."""
    return _xla("gpu-xla")


def _xla(name: str) -> Target:
    return Target(
        name=name,
        codes="int8",
        weights=("tensor", "channel", "group"),
        float_results=KINDS,
        adds=False,
        widths=(4, 8),
        dynamic=("tensor", "token"),
        weight_only=(2, 3, 4, 5, 6, 7, 8),
        groups=True,
        norms=True,
    )


def recipe_for(target: str, weights: int = 8, activations: int | None = 8, **options: object) -> QuantRecipe:
    """The preset that suits a target, of these bits (activations of None: weights alone), with further `options` of
    `qat.recipe`. Its name is a preset's text, for a config. Raises `ValueError` for bits or options that the target has
    no form for."""
    profile = build(target)
    if activations is None and weights not in profile.weight_only:
        forms = ", ".join(map(str, profile.weight_only))
        raise ValueError(
            f"{profile.name} multiplies no weights of {weights} bits with float activations"
            f"{f', only of {forms}' if forms else ''}. Quantize activations too, such as "
            f"recipe_for({profile.name!r}), or choose another target."
        )
    chosen: dict[str, object] = {}
    if activations is not None:
        chosen |= {"adds": True} if profile.adds else {}
        # A zero point is left out where it is refused, and where it costs a pass and nothing is gained in the form.
        chosen |= {"grid": "symmetric"} if "affine" not in profile.grids or profile.name in ("tpu", "gpu-xla") else {}
    chosen |= options
    text = f"w{weights}" + ("" if activations is None else f"a{activations}")
    told = ", ".join(f"{name}={value!r}" for name, value in chosen.items())
    made = recipe(f"{text}({told})" if told else text)
    specs = [rule.activations for rule in made.all_rules if rule.activations]
    if any(spec.grid not in profile.grids for spec in specs):
        grid = parse_call(made.name)[2].get("grid")
        raise ValueError(f"{profile.name} takes {' or '.join(profile.grids)} activations, got grid={grid!r}.")
    return made
