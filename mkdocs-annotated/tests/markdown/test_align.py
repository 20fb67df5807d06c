r"""The lines and words of two texts are aligned."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mkdocs_annotated.markdown.align import WORD, LinePair, align_lines, changed_words

LINES = st.lists(
    st.sampled_from(["a = b", "a = c(d)", "  a = b", ")", "]", "", "if a:", "for x in a:", "a"])
    | st.text(alphabet="ab1 _=().", max_size=12),
    max_size=12,
)
LINE = st.text(alphabet="ab1 _=().\u00e9", max_size=20)


@given(left=LINES, right=LINES)
def test_every_line_of_both_texts_appears_once_and_in_order(left, right):
    pairs = align_lines(left, right)
    assert [pair.left for pair in pairs if pair.left is not None] == list(range(len(left)))
    assert [pair.right for pair in pairs if pair.right is not None] == list(range(len(right)))
    assert not any(pair.left is None and pair.right is None for pair in pairs)


@given(left=LINES, right=LINES)
def test_a_pair_is_equal_if_its_words_are_equal(left, right):
    for pair in align_lines(left, right):
        both = pair.left is not None and pair.right is not None
        words = both and WORD.findall(left[pair.left]) == WORD.findall(right[pair.right])
        assert pair.equal == words


@given(lines=LINES)
def test_equal_texts_have_only_equal_pairs(lines):
    assert align_lines(lines, lines) == tuple(LinePair(n, n, True) for n in range(len(lines)))


@given(left=LINES, right=LINES)
def test_swapping_the_texts_mirrors_the_pairs(left, right):
    mirrored = {LinePair(pair.right, pair.left, pair.equal) for pair in align_lines(right, left)}
    assert set(align_lines(left, right)) == mirrored


@given(left=LINES, right=LINES)
def test_between_two_pairs_lines_of_the_left_text_come_first(left, right):
    pairs = align_lines(left, right)
    for pair, next_pair in itertools.pairwise(pairs):
        assert not (pair.left is None and next_pair.right is None)


@given(left=LINE, right=LINE)
def test_lines_without_their_changed_words_are_equal(left, right):
    spans = changed_words(left, right)
    rest = []
    for line, found in zip((left, right), spans, strict=True):
        for span in reversed(found):
            assert 0 <= span.column < span.end <= len(line)
            line = line[: span.column] + " " + line[span.end :]
        rest.append(WORD.findall(line))
    assert rest[0] == rest[1]
    assert changed_words(right, left) == (spans[1], spans[0])
    assert changed_words(left, left) == ((), ())


def rows(left: str, right: str) -> list[tuple[str, str]]:
    texts = left.split("; "), right.split("; ")
    return [
        tuple(
            "" if n is None else text[n] for n, text in zip((p.left, p.right), texts, strict=True)
        )
        for p in align_lines(*texts)
    ]


@pytest.mark.parametrize(
    ("left", "right", "want"),
    [
        # A line in one text only.
        ("a = 1; b = 2", "a = 1; c(d); b = 2", [("a = 1", "a = 1"), ("", "c(d)"), ("b = 2",) * 2]),
        # Similar lines are paired across an unrelated one.
        (
            "f(x); y = z.norm(eps)",
            "y = z.norm(eps, 2); return None",
            [("f(x)", ""), ("y = z.norm(eps)", "y = z.norm(eps, 2)"), ("", "return None")],
        ),
        # Brackets follow the line before them.
        ("f(; a,; )", "g(; b,; ); f(; a,; )", [("", "g("), ("", "b,"), ("", ")")]
         + [(each, each) for each in ("f(", "a,", ")")]),
        ("a; ); ]; )", "); ]; ); a", [*(("", each) for each in ")])"), ("a", "a")]
         + [(each, "") for each in ")])"]),
        ("", "a = b", [("", "a = b")]),
    ],
)  # fmt: skip
def test_similar_lines_are_paired(left, right, want):
    assert [row for row in rows(left, right) if any(row)] == want


def test_only_changed_words_are_marked():
    left, right = "w = self.weight[:n]", "w = self.weight[:n, :n]"
    spans = changed_words(left, right)
    assert spans[0] == ()
    assert [right[span.column : span.end] for span in spans[1]] == [", :n"]
