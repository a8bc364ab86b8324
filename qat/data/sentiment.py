"""The embedded data set of a text classifier: reviews from a grammar, no folder and no network needed."""

from collections.abc import Sequence

import numpy as np

from qat import data
from qat.data import sentiment as lexicon
from qat.data.dataset import Dataset
from qat.data.text.dataset import content, sources, text_dataset
from qat.data.text.sentences import Labelled
from qat.data.text.tokenizer import word_pieces

GOOD = (
    "good", "great", "brilliant", "moving", "funny", "clever", "charming", "gripping", "fresh", "warm", "graceful",
    "superb", "witty", "honest", "bold", "lively",
)  # fmt: skip
BAD = (
    "bad", "awful", "dull", "clumsy", "boring", "silly", "lifeless", "shallow", "stale", "cold", "messy", "terrible",
    "lazy", "fake", "timid", "tedious",
)  # fmt: skip
WEAK = ("slightly", "somewhat", "mildly", "rather")
STRONG = ("very", "truly", "extremely", "deeply")
NEGATIONS = ("not", "never", "hardly")
SUBJECTS = (
    "plot", "acting", "music", "dialogue", "ending", "cast", "story", "script", "editing", "pacing", "hero", "villain",
)  # fmt: skip
CONTRASTS = ("but", "yet")
CONCESSIONS = ("although", "though", "while")
JUDGES = ("critics", "friends", "reviewers", "fans")
SAYINGS = ("said", "claimed", "wrote")
AGREEMENT = ("right", "correct")
DISAGREEMENT = ("wrong", "mistaken")
ELSEWHERE = ("the trailer", "the book", "the poster", "the last film", "the sequel")
SCENES = (
    "we saw it on a rainy sunday", "the room was full", "it runs two hours", "my sister came along",
    "it was shot in two towns", "we sat in the third row", "it opened in may", "the tickets were blue",
)  # fmt: skip
REST = ("the", "was", "and", "that", "they", "were", "nobody", "could", "say", "unlike", "which", ",", ".")


def vocabulary() -> tuple[str, ...]:
    """Every word, after the tokens of a tokenizer's own; [PAD] is the first."""
    groups = (
        GOOD, BAD, WEAK, STRONG, NEGATIONS, SUBJECTS, CONTRASTS, CONCESSIONS, JUDGES, SAYINGS, AGREEMENT, DISAGREEMENT,
        ELSEWHERE, SCENES, REST,
    )  # fmt: skip
    words = dict.fromkeys(word for group in groups for phrase in group for word in phrase.split())
    return ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *words)


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
    """Generate `count` reviews, no text twice."""
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


CLASSES = ("negative", "positive")


@data.register
def sentiment(
    examples: int = 8000,
    seed: int = 0,
    held_out: float = 0.125,
    length: int = 48,
    buckets: tuple[int, ...] | None = None,
) -> Dataset:
    """Generated reviews `tokens` int32[length] with `mask` and `label`, 0 negative and 1 positive.

    What decides is the order of the words: negation, contrast, strength, what others said and whether they are right;
    see `qat.data.sentiment`. Counting words tells little. `examples` are for training; validation and test have
    `held_out` of that number each, and no review is in two splits. A token is a word; a model needs an embedding of
    the data set's `vocabulary` rows. Longer reviews are cut to `length` tokens, and batches to `buckets`.
    """
    if examples < 1 or not 0 < held_out <= 1:
        raise ValueError(
            f"`examples` must be at least 1 and `held_out` in (0, 1], the part of them that validation and test have; "
            f"got {examples} and {held_out}."
        )
    few = max(1, round(held_out * examples))
    texts, values = zip(*reviews(examples + 2 * few, np.random.default_rng(seed)), strict=True)
    labels = (np.array(values) > 0).astype(np.int32)
    ends = {"train": slice(examples), "validation": slice(examples, -few), "test": slice(-few, None)}
    parts = {split: Labelled(texts[part], labels[part]) for split, part in ends.items()}
    splits = sources("sentiment", parts, word_pieces(vocabulary()), length)
    return text_dataset("sentiment", splits, content(parts), CLASSES, buckets)
