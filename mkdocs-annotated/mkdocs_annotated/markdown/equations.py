r"""Find the symbols of a paper in the MathML of a page.

# Symbols in equations

A symbol is found by its tree, not by its text. An accent, a prime or a number as index makes
another symbol: $Z$ is not found in $\tilde{Z}$, $Z'$ and $Z_1$. A letter as index selects an entry:
$W$ is found in $W_{ij}$, and also in the index of $f_{W,b}$. Inside a symbol, only the indices are
searched.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

FORMULA = re.compile(r'<math data-latex="[^"]*".*?</math>', re.DOTALL)
PIECE = re.compile(r"<(?P<close>/?)(?P<tag>[a-zA-Z]+)[^>]*?(?P<empty>/?)>|(?P<text>[^<]+)")
ACCENTS = frozenset(("mover", "munder", "munderover"))
SCRIPTS = frozenset(("msub", "msup", "msubsup"))
PRIMES = frozenset("\u2032\u2033\u2034\u2057'")
BRACES = frozenset("\u23de\u23df\u23dc\u23dd\u23b4\u23b5")

Structure = tuple["str | Structure", ...]


@dataclass
class MathNode:
    """An element of a formula; `at` is the position in the text where attributes can be added."""

    tag: str
    at: int
    text: str = ""
    variant: str = ""
    children: list[MathNode] = field(default_factory=list)

    def structure(self) -> Structure:
        """Return the tree without attributes, space, and groups of one element."""
        inner = [child for child in self.children if child.tag != "mspace"]
        if self.tag == "mrow" and len(inner) == 1:
            return inner[0].structure()
        return (self.tag + self.variant, self.text.strip(), *(child.structure() for child in inner))


def parse_mathml(mathml: str) -> MathNode:
    """Parse MathML. Raises `ValueError` if the text is not one balanced element."""
    top = MathNode("", 0)
    stack = [top]
    for piece in PIECE.finditer(mathml):
        if piece["text"] is not None:
            stack[-1].text += piece["text"]
        elif piece["close"]:
            if len(stack) < 2 or stack.pop().tag != piece["tag"]:
                raise ValueError(f"unbalanced {piece[0]}")
        else:
            # An upright W is another symbol than an italic one.
            upright = "-upright" if "mathvariant" in piece[0] else ""
            node = MathNode(piece["tag"], piece.end("tag"), variant=upright)
            stack[-1].children.append(node)
            if not piece["empty"]:
                stack.append(node)
    if len(stack) != 1 or len(top.children) != 1:
        raise ValueError("not one element")
    return top.children[0]


def symbol_structure(mathml: str) -> Structure | None:
    """Return the structure of a formula that is one symbol, or `None`.

    >>> symbol_structure("<math><mi>W</mi></math>")
    ('mi', 'W')
    """
    parts = [child for child in parse_mathml(mathml).children if child.tag != "mspace"]
    if len(parts) != 1 or (parts[0].tag == "mrow" and len(parts[0].structure()) > 3):
        return None
    return parts[0].structure()


def mark_symbols(html: str, symbols: Mapping[Structure, str], seen: Callable[[str], object]) -> str:
    r"""Add `data-s` with the symbol's id to the symbols in all equations of a page.

    * `symbols` holds the id of each structure
    * `seen` is called with the id of each symbol that is found
    """
    if not symbols:
        return html

    def mark_formula(formula: re.Match[str]) -> str:
        text = formula[0]
        try:
            root = parse_mathml(text)
        except ValueError:  # an author wrote it as HTML
            return text
        out: list[str] = []
        at = 0
        for node, symbol in sorted(_find(root, symbols), key=lambda pair: pair[0].at):
            out += [text[at : node.at], f' data-s="{symbol}"']
            at = node.at
            seen(symbol)
        return "".join(out) + text[at:]

    return FORMULA.sub(mark_formula, html)


def _find(node: MathNode, symbols: Mapping[Structure, str]) -> Iterator[tuple[MathNode, str]]:
    # A group of one element has the structure of the element: mark the element.
    symbol = None if node.tag == "mrow" else symbols.get(node.structure())
    children = node.children
    if symbol is None and node.tag == "msubsup":
        # $Z_1^\top$ contains $Z_1$, but MathML has one element for both scripts.
        parts = [child.structure() for child in children[:2]]
        symbol = symbols.get(("msub", "", *parts))
    if symbol is not None:
        yield node, symbol
        children = children[1:] if node.tag in SCRIPTS else []
    elif _is_decorated(node):
        children = []
    for child in children:
        yield from _find(child, symbols)


def _is_decorated(node: MathNode) -> bool:
    """Return whether an accent, a prime or a number makes a letter a symbol of its own."""
    if node.tag in ACCENTS:
        # The limits of a sum and the text of a brace have the same elements.
        base, above = node.children[0], node.children[-1]
        return base.tag != "mo" and above.tag == "mo" and above.text.strip() not in BRACES
    if node.tag in SCRIPTS and node.children[0].tag != "mo":
        if node.tag != "msup" and node.children[1].tag == "mn":
            return True
        return node.tag != "msub" and node.children[-1].text.strip()[:1] in PRIMES
    return False
