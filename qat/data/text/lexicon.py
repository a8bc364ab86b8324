"""The words of generated reviews, by what they mean for a verdict."""

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
