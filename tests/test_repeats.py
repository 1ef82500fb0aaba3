"""What a text that repeats itself says of its next tokens, beside a search that is as plain as can be."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from heavylift_runtime.engines.engine import Sampling
from heavylift_runtime.native.repeats import LONGEST, Repeats
from heavylift_runtime.native.sequence import Sequence

TOKENS = st.one_of(st.integers(0, 3), st.sampled_from([256, 65536, 2**24, 2**31 - 1]))


def plainly(told: list[int], count: int) -> tuple[int, list[int]]:
    for length in range(min(LONGEST, len(told) - 1), 0, -1):
        for start in range(len(told) - length - 1, -1, -1):
            if told[start : start + length] == told[-length:]:
                grown = list(told)
                for _ in range(count):
                    grown.append(grown[start + length + len(grown) - len(told)])
                return length, grown[len(told) :]
    return 0, [told[-1]] * count


@given(st.lists(TOKENS), st.lists(TOKENS, min_size=1), st.lists(st.lists(TOKENS, max_size=5)), st.integers(1, 7))
@example([], [1, 0], [], 2)
@example([], [1, 256, 0, 65536], [], 1)  # the same bytes, but not where a token begins
def test_what_followed_the_last_tokens_before_follows_them_again(
    source: list[int], text: list[int], further: list[list[int]], count: int
) -> None:
    repeats, sequence = Repeats(), Sequence(0, tuple(source), list(text), 1, Sampling(9))

    for more in [[], *further]:
        sequence.text += more
        assert repeats(sequence, count) == plainly(source + sequence.text, count)


def test_each_text_is_its_own_and_is_forgotten_with_its_sequence() -> None:
    repeats = Repeats()
    one, other = (Sequence(0, (), [token, 5, token], 1, Sampling(9)) for token in (1, 2))

    assert (repeats(one, 3), repeats(other, 3)) == ((1, [5, 1, 5]), (1, [5, 2, 5]))
    del one, other
    assert not repeats._told
