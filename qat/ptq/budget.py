"""A budget for the bits of a model's layers: of file size, of bit operations, or of measured time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from qat.ptq.groups import Choice, Group
from qat.ptq.integer_program import smallest
from qat.registry import did_you_mean, parse_call

type Kind = Literal["size", "operations", "latency"]

UNITS: Mapping[str, str] = {"size": "bytes", "operations": "bit operations", "latency": "seconds"}


@dataclass(frozen=True)
class Budget:
    """A limit on the sum of what groups cost; None: on as much as the recipe itself costs.

    `size` counts bytes of weights with their scales, `operations` multiply-accumulates times the bits of both
    operands, `latency` the seconds that `table` has for each site, by its id, and each width, as `w4a8`, or `float`.
    With `bits` the limit is that of a model with so many bits in every layer, which need not be a whole number. Bits of
    activations take no room in a file: without `activations` each layer keeps its own, and none goes to float.
    """

    kind: Kind
    limit: float | None = None
    bits: float | None = None
    table: Mapping[str, Mapping[str, float]] | None = None
    activations: bool = True

    def __post_init__(self) -> None:
        if self.kind not in UNITS:
            raise ValueError(
                f"`budget` must be one of {', '.join(UNITS)}, got {self.kind!r}.{did_you_mean(str(self.kind), UNITS)}"
            )
        for name, value in (("limit", self.limit), ("bits", self.bits)):
            if value is not None and not value > 0:
                raise ValueError(f"`{name}` of a budget must be positive, got {value!r}.")
        if self.limit is not None and self.bits is not None:
            raise ValueError("`budget` takes a limit or bits, got both.")
        if (self.table is None) == (self.kind == "latency"):
            raise ValueError("`table` goes with a budget of latency: seconds by site id and width, such as 'w4a8'.")
        if self.kind == "latency" and self.bits is not None:
            raise ValueError("`bits` say nothing of latency. Give a limit in seconds.")

    def choices(self, group: Group, widths: Sequence[int], in_float: bool = True) -> list[Choice]:
        """The widths that a group may have."""
        every = group.choices(widths, in_float)
        if self.activations:
            return every
        return [one for one in every if one is not None and one.activations == group.own.activations]

    def cost(self, group: Group, choice: Choice) -> float:
        """The cost of a group at a width, in the budget's unit. Raises `ValueError` where the table lacks it."""
        if self.kind == "size":
            return group.bytes(choice)
        if self.kind == "operations":
            return group.bit_operations(choice)
        assert self.table is not None
        name = "float" if choice is None else str(choice)
        missing = [site for site in group.sites if name not in self.table.get(site, {})]
        if missing:
            raise ValueError(
                f"`table` has no seconds for {missing[0]!r} at {name!r}. Measure it, or allow fewer widths."
            )
        return sum(self.table[site][name] for site in group.sites)

    def total(self, groups: Sequence[Group], choices: Sequence[Choice]) -> float:
        """The cost of all groups."""
        return sum(self.cost(group, choice) for group, choice in zip(groups, choices, strict=True))

    def of(self, groups: Sequence[Group], choices: Sequence[Sequence[Choice]]) -> float:
        """The limit in the budget's unit. Raises `ValueError`, naming the smallest possible, where no choices of the
        groups cost so little."""
        limit = self._limit(groups)
        least = smallest([[self.cost(group, one) for one in own] for group, own in zip(groups, choices, strict=True)])
        if least > limit:
            unit = UNITS[self.kind]
            raise ValueError(
                f"the budget of {limit:,.6g} {unit} cannot be met: the smallest possible is {least:,.6g} {unit}, "
                "with the fewest bits in every layer. Raise it, or allow fewer bits."
            )
        return limit

    def _limit(self, groups: Sequence[Group]) -> float:
        if self.limit is not None:
            return self.limit
        if self.bits is None:
            return self.total(groups, [group.own for group in groups])
        if self.kind == "size":
            return sum(sum(group.elements) * self.bits / 8 + group.scales for group in groups)
        return sum(group.macs * self.bits**2 for group in groups)


def budget_of(text: str) -> Budget:
    """The budget that a config's text names: `size` and `operations` as the recipe's own, `size(bits=4.5)`,
    `operations(bits=4)`, `size(limit=100_000)` in bytes, `size(activations=False)`.

    Raises `ValueError` for any other text.
    """
    name, args, options = parse_call(text)
    wrong = sorted({*options} - {"limit", "bits", "activations"})
    activations = options.pop("activations", True)
    if args or wrong or name == "latency":
        said = "latency needs a table, which qat.ptq.allocate takes" if name == "latency" else f"got {text!r}"
        raise ValueError(f"`allocation` must be such as 'size', 'size(bits=4.5)' or 'operations(bits=4)'; {said}.")
    for option, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"`{option}` of allocation {text!r} must be a number, got {value!r}.")
    if not isinstance(activations, bool):
        raise ValueError(f"`activations` of allocation {text!r} must be True or False, got {activations!r}.")
    return Budget(name, **options, activations=activations)  # pyright: ignore[reportArgumentType]
