r"""
# Two texts, line beside line

Which line of one text stands beside which line of another, and which words of two such lines
differ. White space does not count, so that a method is compared with a function as well.

Equal lines are found first, then those between them that are similar enough are paired in order.
`difflib` depends on which text comes first; both steps therefore take the texts in one fixed order,
so that swapping them mirrors the result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

WORD = re.compile(r"\w+|[^\w\s]")
# From so much likeness on two lines are shown as one that changed. Lines of code that have nothing
# to do with each other still share their brackets and commas.
MIN_SIMILARITY = 0.5


@dataclass(frozen=True)
class LinePair:
    """Lines that stand side by side, by their index; `None` where one text has none."""

    left: int | None
    right: int | None
    equal: bool = False


@dataclass(frozen=True)
class Span:
    """A stretch of a line, by columns counted from zero; `end` is the first one behind it."""

    column: int
    end: int


def align_lines(left: Sequence[str], right: Sequence[str]) -> tuple[LinePair, ...]:
    """Every line of both texts once and in order; a line of the left alone comes first."""
    a, b = [_words(line) for line in left], [_words(line) for line in right]
    pairs = [(i, j) for j, i in _pairs(b, a)] if b < a else list(_pairs(a, b))
    found: list[LinePair] = []
    i = j = 0
    for left_end, right_end in [*pairs, (len(a), len(b))]:
        found += [LinePair(n, None) for n in range(i, left_end)]
        found += [LinePair(None, n) for n in range(j, right_end)]
        if left_end < len(a):
            found.append(LinePair(left_end, right_end, a[left_end] == b[right_end]))
        i, j = left_end + 1, right_end + 1
    return tuple(found)


def changed_words(left: str, right: str) -> tuple[tuple[Span, ...], tuple[Span, ...]]:
    """The words of either line that the other does not have at this place."""
    if _words(right) < _words(left):
        swapped = changed_words(right, left)
        return swapped[1], swapped[0]
    a, b = list(WORD.finditer(left)), list(WORD.finditer(right))
    spans: tuple[list[Span], list[Span]] = ([], [])
    for kind, a1, a2, b1, b2 in _opcodes([m[0] for m in a], [m[0] for m in b]):
        if kind != "equal":
            for found, words in ((spans[0], a[a1:a2]), (spans[1], b[b1:b2])):
                if words:
                    found.append(Span(words[0].start(), words[-1].end()))
    return tuple(spans[0]), tuple(spans[1])


def _words(line: str) -> list[str]:
    return WORD.findall(line)


def _opcodes(a: Sequence[object], b: Sequence[object]) -> list[tuple[str, int, int, int, int]]:
    return list(SequenceMatcher(None, a, b, autojunk=False).get_opcodes())


def _pairs(a: Sequence[list[str]], b: Sequence[list[str]]) -> Iterator[tuple[int, int]]:
    """Lines that have a partner, in order."""
    texts = [" ".join(words) for words in a], [" ".join(words) for words in b]

    # A closing bracket is equal to any other one, and says nothing about where it belongs.
    def bare(line: str) -> bool:
        return not any(sign.isalnum() for sign in line)

    matcher = SequenceMatcher(bare, *texts, autojunk=False)
    for kind, a1, a2, b1, b2 in matcher.get_opcodes():
        if kind == "equal":
            yield from zip(range(a1, a2), range(b1, b2), strict=True)
        elif kind == "replace":
            yield from ((a1 + i, b1 + j) for i, j in _similar(a[a1:a2], b[b1:b2]))


def _similar(a: Sequence[list[str]], b: Sequence[list[str]]) -> list[tuple[int, int]]:
    """The pairs, in order, whose likeness is the largest in sum."""
    # best[i][j] is the sum for what is left from line i and line j on.
    best = [[0.0] * (len(b) + 1) for _ in range(len(a) + 1)]
    like = _likeness(a, b)
    for i in reversed(range(len(a))):
        for j in reversed(range(len(b))):
            both = like[i][j] + best[i + 1][j + 1]
            best[i][j] = max(both, best[i + 1][j], best[i][j + 1])
    found = []
    i = j = 0
    while i < len(a) and j < len(b):
        if best[i][j] == best[i + 1][j]:
            i += 1
        elif best[i][j] == best[i][j + 1]:
            j += 1
        else:
            found.append((i, j))
            i, j = i + 1, j + 1
    return found


def _likeness(a: Sequence[list[str]], b: Sequence[list[str]]) -> list[list[float]]:
    """How like each line of one text is to each of the other; zero where it is too little."""
    like = [[0.0] * len(b) for _ in a]
    for j, other in enumerate(b):
        # A matcher remembers much about its second text.
        matcher = SequenceMatcher(None, [], other, autojunk=False)
        for i, one in enumerate(a):
            matcher.set_seq1(one)
            # The quick ratios are never below the true one.
            if (
                matcher.real_quick_ratio() >= MIN_SIMILARITY
                and matcher.quick_ratio() >= MIN_SIMILARITY
            ):
                ratio = matcher.ratio()
                like[i][j] = ratio if ratio >= MIN_SIMILARITY else 0.0
    return like
