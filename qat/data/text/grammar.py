"""Reviews from a grammar in which the order of the words decides: negation, contrast, strength, what others said.

A statement is a text with a value, positive for praise. `A but B` has the value of B, and so have `although A , B` and
`B , although A`; `A and B` has the sum, `critics said that A and they were wrong` the opposite of A, as has
`nobody could say that A`; what is said of another film counts for nothing.
"""

from collections.abc import Sequence

import numpy as np

from qat.data.text import lexicon

type Statement = tuple[str, int]

NEGATED = 0.2  # of all clauses
REPORTED, DENIED = 0.1, 0.1  # of all opinions
SCENIC = 0.3  # of all reviews begin with something beside the point
WEAKLY, PLAINLY, STRONGLY = 1, 2, 3


def review(rng: np.random.Generator) -> Statement:
    """A review and its value, which is not 0."""
    while True:
        text, value = _pick(rng, (_opinion, _contrast, _concession, _sum, _aside))(rng)
        if value:
            scene = f"{_pick(rng, lexicon.SCENES)} . " if rng.random() < SCENIC else ""
            return f"{scene}{text} .", value


def reviews(count: int, rng: np.random.Generator) -> list[Statement]:
    """So many reviews, no text twice."""
    found: dict[str, int] = {}
    while len(found) < count:
        text, value = review(rng)
        found[text] = value
    return list(found.items())


def _pick[T](rng: np.random.Generator, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]


def _clause(rng: np.random.Generator, subject: str | None = None) -> Statement:
    """`the plot was not very good`."""
    value, adjectives = _pick(rng, ((1, lexicon.GOOD), (-1, lexicon.BAD)))
    words = [subject or f"the {_pick(rng, lexicon.SUBJECTS)}", "was"]
    if rng.random() < NEGATED:
        words.append(_pick(rng, lexicon.NEGATIONS))
        value = -value
    strength, adverbs = _pick(rng, ((WEAKLY, lexicon.WEAK), (PLAINLY, ()), (STRONGLY, lexicon.STRONG)))
    words += [_pick(rng, adverbs)] if adverbs else []
    return " ".join([*words, _pick(rng, adjectives)]), value * strength


def _reported(rng: np.random.Generator) -> Statement:
    """`critics said that the plot was good and they were wrong`."""
    text, value = _clause(rng)
    sign, verdicts = _pick(rng, ((1, lexicon.AGREEMENT), (-1, lexicon.DISAGREEMENT)))
    said = f"{_pick(rng, lexicon.JUDGES)} {_pick(rng, lexicon.SAYINGS)} that {text}"
    return f"{said} and they were {_pick(rng, verdicts)}", sign * value


def _denied(rng: np.random.Generator) -> Statement:
    """`nobody could say that the plot was good`."""
    text, value = _clause(rng)
    return f"nobody could say that {text}", -value


def _opinion(rng: np.random.Generator) -> Statement:
    kind = rng.choice(3, p=[1 - REPORTED - DENIED, REPORTED, DENIED])
    return (_clause, _reported, _denied)[kind](rng)


def _contrast(rng: np.random.Generator) -> Statement:
    (first, _), (second, value) = _opinion(rng), _opinion(rng)
    return f"{first} {_pick(rng, lexicon.CONTRASTS)} {second}", value


def _concession(rng: np.random.Generator) -> Statement:
    (granted, _), (main, value) = _clause(rng), _opinion(rng)
    word = _pick(rng, lexicon.CONCESSIONS)
    return _pick(rng, (f"{word} {granted} , {main}", f"{main} , {word} {granted}")), value


def _sum(rng: np.random.Generator) -> Statement:
    (first, one), (second, other) = _clause(rng), _clause(rng)
    return f"{first} and {second}", one + other


def _aside(rng: np.random.Generator) -> Statement:
    """`unlike the book , which was dull , the plot was good`."""
    other, _ = _clause(rng, subject="which")
    text, value = _opinion(rng)
    return f"unlike {_pick(rng, lexicon.ELSEWHERE)} , {other} , {text}", value
