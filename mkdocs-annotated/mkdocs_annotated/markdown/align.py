r"""Pair the lines of two texts, and find the words in which two lines differ.

# Aligning two texts

White space is ignored, so a method can be compared with a function.

Equal lines are paired first. Between them, similar lines are paired in order. The result of
`difflib` depends on which text comes first. Both steps therefore take the texts in one fixed order,
so that swapping the texts mirrors the result.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

WORD = re.compile(r"\w+|[^\w\s]")
# Pair lines with at least this similarity. Unrelated lines of code still share brackets and commas.
MIN_SIMILARITY = 0.5


@dataclass(frozen=True)
class LinePair:
    """The indices of two lines shown side by side; `None` if one text has no such line."""

    left: int | None
    right: int | None
    equal: bool = False


@dataclass(frozen=True)
class Span:
    """The columns `column` to `end - 1` of a line, counted from zero."""

    column: int
    end: int


def align_lines(left: Sequence[str], right: Sequence[str]) -> tuple[LinePair, ...]:
    """Pair the lines of two texts; each line appears once, and in order.

    Between two pairs, unpaired lines of the left text come before those of the right.

    >>> align_lines(["a = b"], ["f(x)", "a = b"])
    (LinePair(left=None, right=0, equal=False), LinePair(left=0, right=1, equal=True))
    """
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
    """Return the words of each line that differ from the other line."""
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
    """Yield the indices of paired lines in order."""
    texts = [" ".join(words) for words in a], [" ".join(words) for words in b]

    # Do not align lines of brackets alone, which are equal everywhere.
    def is_punctuation(line: str) -> bool:
        return not any(character.isalnum() for character in line)

    matcher = SequenceMatcher(is_punctuation, *texts, autojunk=False)
    for kind, a1, a2, b1, b2 in matcher.get_opcodes():
        if kind == "equal":
            yield from zip(range(a1, a2), range(b1, b2), strict=True)
        elif kind == "replace":
            yield from ((a1 + i, b1 + j) for i, j in _similar(a[a1:a2], b[b1:b2]))


def _similar(a: Sequence[list[str]], b: Sequence[list[str]]) -> list[tuple[int, int]]:
    """Return the pairs, in order, with the largest total similarity."""
    # best[i][j] is the largest total for the lines a[i:] and b[j:].
    best = [[0.0] * (len(b) + 1) for _ in range(len(a) + 1)]
    similarity = _similarities(a, b)
    for i in reversed(range(len(a))):
        for j in reversed(range(len(b))):
            both = similarity[i][j] + best[i + 1][j + 1]
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


def _similarities(a: Sequence[list[str]], b: Sequence[list[str]]) -> list[list[float]]:
    """Return the similarity of each line to each line of the other text; 0 below the minimum."""
    similarity = [[0.0] * len(b) for _ in a]
    for j, other in enumerate(b):
        # `SequenceMatcher` caches its second text.
        matcher = SequenceMatcher(None, [], other, autojunk=False)
        for i, one in enumerate(a):
            matcher.set_seq1(one)
            # The quick ratios are upper bounds.
            if (
                matcher.real_quick_ratio() >= MIN_SIMILARITY
                and matcher.quick_ratio() >= MIN_SIMILARITY
            ):
                ratio = matcher.ratio()
                similarity[i][j] = ratio if ratio >= MIN_SIMILARITY else 0.0
    return similarity
