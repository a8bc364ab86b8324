"""Method cards: one page a method, from its docstring, from `cards.toml`, and from kept results."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sitegen import results
from sitegen.source import Registered, registered

FOLDERS = {"observers": "Observers", "quantizers": "Quantizers", "ptq": "Post-training methods"}
"""Folders of `qat/` whose registered functions have cards, with the heading of each."""
SETTINGS = {"stabilizers": "What steadies QAT", "choosing": "Choosing bits and samples"}
"""Further groups of cards, of settings and commands."""
NEEDED = ("formula", "helps", "fails", "paper", "ours")
NOT_MEASURED = "No study in the repository has measured it by itself; `qat sweep` on a study with and without it would."


def texts() -> dict[str, dict[str, Any]]:
    """The written part of each card by group and name."""
    return tomllib.loads(Path(__file__).with_name("cards.toml").read_text(encoding="utf-8"))


def missing() -> list[str]:
    """Registered methods without a written card, cards without a method, and cards without all of their parts."""
    written, found = texts(), []
    for folder in FOLDERS:
        names = {one.name for one in registered(folder)}
        found += [f"{folder}.{name}" for name in names ^ set(written.get(folder, {}))]
    for group, cards in written.items():
        more = ("setting", "cost") if group in SETTINGS else ()
        for name, card in cards.items():
            found += [f"{group}.{name}: no {part}" for part in (*NEEDED, *more) if part not in card]
    return sorted(found)


def card_pages() -> dict[str, str]:
    """The text of each card by its path, the index first."""
    written = texts()
    index = ["# Methods", "A card a method: formula, when it helps and when not, settings, cost, and measured figures."]
    pages = {"methods/index.md": ""}
    for folder, heading in FOLDERS.items():
        rows = [["method", "formula"]]
        for method in registered(folder):
            card = written.get(folder, {}).get(method.name, {})
            pages[f"methods/{method.name}.md"] = _method(method, card)
            rows.append([f"[`{method.name}`]({method.name}.md)", _cell(card)])
        index += [f"## {heading}", results.markdown(rows)]
    for group, heading in SETTINGS.items():
        rows = [["method", "formula"]]
        for name, card in written.get(group, {}).items():
            pages[f"methods/{name}.md"] = _setting(name, card)
            rows.append([f"[`{name}`]({name}.md)", _cell(card)])
        index += [f"## {heading}", results.markdown(rows)]
    pages["methods/index.md"] = "\n\n".join(index) + "\n"
    return pages


def _cell(card: Mapping[str, Any]) -> str:
    return f"`{card.get('formula', '').replace('|', chr(92) + '|')}`"


def _method(method: Registered, card: Mapping[str, Any]) -> str:
    first, *rest = method.text.split("\n\n")
    settings = [[f"`{name}`", f"`{kind}`", f"`{value}`"] for name, kind, value in method.settings]
    table = results.markdown([["setting", "type", "default"], *settings]).replace(" | None", " \\| None")
    shown = table if settings else "It has no settings."
    use = {"observers": f"observer='{method.name}'", "quantizers": f"quantizer='{method.name}'"}.get(method.folder)
    call = f'qat.recipe("w4a4({use})")' if use else f'ptq=("{method.name}",)'
    text = [f"# {method.name}", _prose(first), *_judged(card), "## Settings", f"`{call}`", shown]
    details = ["## Details, and cost", *map(_prose, rest)] if rest else []
    return "\n\n".join([*text, *details, *_figures(card), ""])


def _setting(name: str, card: Mapping[str, Any]) -> str:
    text = [f"# {name}", f"`{card['setting']}`", *_judged(card), "## Cost", card["cost"], *_figures(card), ""]
    return "\n\n".join(text)


def _prose(text: str) -> str:
    """A docstring's paragraph, whose stars are those of products and powers, not of emphasis."""
    return " ".join(text.split()).replace("*", "\\*").replace("|", "\\|").replace("<-", "←")


def _judged(card: Mapping[str, Any]) -> list[str]:
    parts = (
        ("Formula", f"```text\n{card['formula']}\n```"),
        ("It helps", card["helps"]),
        ("It does not", card["fails"]),
    )
    return [piece for heading, text in parts for piece in (f"## {heading}", text)]


def _figures(card: Mapping[str, Any]) -> list[str]:
    ours = [_compared(**one) for one in card["ours"]] or [NOT_MEASURED]
    return ["## The paper's figure", card["paper"], "## Ours", *ours]


def _compared(study: str, arm: str, than: str, note: str = "") -> str:
    """A table of an arm of a kept study beside another one, at each number of bits that both have."""
    table = results.read(study)
    metric = table.metrics[0]
    rows = [["bits", than, arm, "difference", "n"]]
    others = {one.bits.removesuffix("_dynamic"): one for one in table.arms.values() if one.method == than}
    for one in table.arms.values():
        if one.method == arm and one.bits in others:
            other = others[one.bits]
            means = [results.shown(results.mean(each, metric)) for each in (other, one)]
            found = results.difference(one, other, metric)
            rows.append([one.bits or "float", *means, results.shown(found, sign=True), str(found.n if found else 0)])
    if len(rows) == 1:
        raise ValueError(f"{study}: no bits at which there are both {arm!r} and {than!r}. Name arms of {study}.csv.")
    head = f"`{metric}`{', %' if results.unit(metric) else ''} in [{study}](../experiments/{study}.md), paired by seed"
    return f"{head}{f'; {note}' if note else ''}:\n\n{results.markdown(rows)}"
