r"""Two texts line beside line, without any page."""

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
def test_a_pair_is_equal_just_where_its_words_are(left, right):
    for pair in align_lines(left, right):
        both = pair.left is not None and pair.right is not None
        words = both and WORD.findall(left[pair.left]) == WORD.findall(right[pair.right])
        assert pair.equal == words


@given(lines=LINES)
def test_equal_texts_have_equal_lines_only(lines):
    assert align_lines(lines, lines) == tuple(LinePair(n, n, True) for n in range(len(lines)))


@given(left=LINES, right=LINES)
def test_swapping_the_texts_mirrors_the_pairs(left, right):
    mirrored = {LinePair(pair.right, pair.left, pair.equal) for pair in align_lines(right, left)}
    assert set(align_lines(left, right)) == mirrored


@given(left=LINES, right=LINES)
def test_between_two_pairs_what_is_left_alone_comes_first(left, right):
    pairs = align_lines(left, right)
    for one, next in itertools.pairwise(pairs):
        assert not (one.left is None and next.right is None)


@given(left=LINE, right=LINE)
def test_what_is_not_marked_in_two_lines_is_the_same_words(left, right):
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
        # A line that is there on one side only
        ("a = 1; b = 2", "a = 1; c(d); b = 2", [("a = 1", "a = 1"), ("", "c(d)"), ("b = 2",) * 2]),
        # Similar lines find each other past one that is like neither
        (
            "f(x); y = z.norm(eps)",
            "y = z.norm(eps, 2); return None",
            [("f(x)", ""), ("y = z.norm(eps)", "y = z.norm(eps, 2)"), ("", "return None")],
        ),
        # Brackets belong to what is in front of them
        ("f(; a,; )", "g(; b,; ); f(; a,; )", [("", "g("), ("", "b,"), ("", ")")]
         + [(each, each) for each in ("f(", "a,", ")")]),
        ("a; ); ]; )", "); ]; ); a", [*(("", each) for each in ")])"), ("a", "a")]
         + [(each, "") for each in ")])"]),
        ("", "a = b", [("", "a = b")]),
    ],
)  # fmt: skip
def test_lines_stand_beside_those_they_are_like(left, right, want):
    assert [row for row in rows(left, right) if any(row)] == want


def test_the_words_that_changed_are_marked_and_no_more():
    left, right = "w = self.weight[:n]", "w = self.weight[:n, :n]"
    spans = changed_words(left, right)
    assert spans[0] == ()
    assert [right[span.column : span.end] for span in spans[1]] == [", :n"]
