"""HTML that is escaped unless it was made here."""

import html

VOID = {"input", "link", "meta"}


class Html(str):
    """Markup that is safe to put into a page as it is."""

    __slots__ = ()


def text(value: str) -> Html:
    """`value` as it reads, whatever markup it contains."""
    return value if isinstance(value, Html) else Html(html.escape(value))


def tag(name: str, /, *children: str, **attributes: str | bool) -> Html:
    """An element; children that are not `Html` and all attributes are escaped.

    `class_` and the like name attributes that are words of Python; an underscore within a name is a dash. True is an
    attribute without a value, False none.
    """
    told = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(str(value))}"')
        for key, value in attributes.items()
        if value is not False
    )
    return Html(f"<{name}{told}>" + ("" if name in VOID else f"{join(*children)}</{name}>"))


def join(*parts: str) -> Html:
    """Texts and elements one after another."""
    return Html("".join(map(text, parts)))
