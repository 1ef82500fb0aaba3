"""The four text-to-text tasks of tiny-t5: inputs, exact answers, and which inputs are never trained on.

Not the training loop (train_tiny_t5.py). Every answer is a function of its input, so correctness is exact match.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from random import Random

ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
).split()
TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
MONTHS = ("January February March April May June July August September October November December").split()
ROMAN = (
    (1000, "M"), (900, "CM"), (500, "D"), (400, "CD"), (100, "C"), (90, "XC"), (50, "L"),
    (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I"),
)  # fmt: skip
TITLES = {
    "dr.": "doctor", "prof.": "professor", "capt.": "captain", "gen.": "general",
    "lt.": "lieutenant", "sgt.": "sergeant", "rev.": "reverend", "gov.": "governor",
}  # fmt: skip
WAYS = {
    "st.": "street", "ave.": "avenue", "rd.": "road", "blvd.": "boulevard", "sq.": "square",
    "ln.": "lane", "dept.": "department", "bldg.": "building", "apt.": "apartment",
}  # fmt: skip
SYLLABLES = (
    "ba den fo gar hil jo kel lum mar nor pas quin ros sten tor ul ven wes yar zim "
    "bri cal dro ell fen gri hol ing jas kirk lan mo nell ock pel rin shaw tal"
).split()


def in_words(number: int) -> str:
    """0..9999 in English, British style: 1204 is 'one thousand two hundred and four'."""
    if number < 20:
        return ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return TENS[tens] + (f"-{ONES[ones]}" if ones else "")
    unit, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    head, rest = divmod(number, unit)
    joint = " and " if 0 < rest < 100 else " "
    return f"{in_words(head)} {name}" + (joint + in_words(rest) if rest else "")


def in_roman(number: int) -> str:
    """1..3999 in Roman numerals."""
    numeral = ""
    for value, letters in ROMAN:
        count, number = divmod(number, value)
        numeral += letters * count
    return numeral


def words(rng: Random) -> tuple[str, str]:
    number = rng.randrange(10 ** rng.randint(1, 4))
    return f"write in words: {number}", in_words(number)


def roman(rng: Random) -> tuple[str, str]:
    number = rng.randint(1, 3999)
    return f"write as a Roman numeral: {number}", in_roman(number)


def iso_date(rng: Random) -> tuple[str, str]:
    year, month, day = rng.randint(1900, 2099), rng.randint(1, 12), rng.randint(1, 28)
    name = MONTHS[month - 1]
    spelling = rng.choice((f"{day} {name} {year}", f"{name} {day}, {year}", f"{name[:3]} {day} {year}"))
    return f"write as an ISO date: {spelling}", f"{year}-{month:02}-{day:02}"


def expand(rng: Random) -> tuple[str, str]:
    def name() -> str:
        return "".join(rng.sample(SYLLABLES, 2))

    title, way = rng.choice(list(TITLES)), rng.choice(list(WAYS))
    form = rng.choice(("{t} {a} of {b} {w}", "{t} {a} and {n} {b} {w}", "{n} {a} {w} near {t} {b}"))
    blanks = {"a": name(), "b": name(), "n": rng.randint(1, 99)}
    short = form.format(t=title, w=way, **blanks)
    return f"expand: {short}", form.format(t=TITLES[title], w=WAYS[way], **blanks)


TASKS: dict[str, Callable[[Random], tuple[str, str]]] = {
    "words": words,
    "iso_date": iso_date,
    "roman": roman,
    "expand": expand,
}


def held_out(text: str) -> bool:
    """Whether an input is kept from training: a rule on the input alone, one in ten."""
    return zlib.crc32(text.encode()) % 10 == 0


def examples(task: str, *, seed: int, unseen: bool) -> Iterator[tuple[str, str]]:
    """Endless (input, answer) pairs of a task; `unseen` chooses the held-out side."""
    rng = Random(f"{task}/{seed}/{unseen}")
    while True:
        text, answer = TASKS[task](rng)
        if held_out(text) == unseen:
            yield text, answer
