"""Answers that no model should give, told without knowing the right one: empty, garbled, an echo, a loop.

Not whether an answer is right (reply.py).
"""

from __future__ import annotations

REPEATS = 4
LONGEST_PERIOD = 12  # words
RUN = 24  # the same character, so many times at the end


def degenerate(prompt: str, output: str) -> str | None:
    """`empty`, `garbled`, `echo`, `loop`, or None for an answer that may be one."""
    text = output.strip()
    if not text:
        return "empty"
    if "\N{REPLACEMENT CHARACTER}" in text or any(ord(each) < 32 and each not in "\n\r\t" for each in text):
        return "garbled"
    if text == prompt.strip():
        return "echo"
    return "loop" if _loops(text) else None


def _loops(text: str) -> bool:
    """Whether it ends in the same words, at least four times over and for half of it, or in one character's run."""
    if len(text) >= RUN and len(set(text[-RUN:])) == 1:
        return True
    words = text.split()
    for period in range(1, min(LONGEST_PERIOD, len(words) // REPEATS) + 1):
        same = period
        while same < len(words) and words[-1 - same] == words[-1 - same + period]:
            same += 1
        if same >= REPEATS * period and 2 * same >= len(words):
            return True
    return False
