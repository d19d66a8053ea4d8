"""Texts with planted duplicates."""

import random
import re

WORDS = [
    *("how", "do", "i", "my", "card", "account", "transfer", "money", "the", "bank", "when", "will", "payment", "arrive"),
    *("please", "change", "address", "lost", "stolen", "currency", "exchange", "rate", "fee", "charge", "refund", "status"),
    *(
        "pending",
        "top",
        "up",
        "limit",
        "cash",
        "machine",
        "withdrawal",
        "pin",
        "blocked",
        "app",
        "phone",
        "verify",
        "reason",
    ),
    *(
        "identity",
        "declined",
        "order",
        "new",
        "physical",
        "virtual",
        "delivery",
        "country",
        "support",
        "salary",
        "statement",
    ),
    *("direct", "debit", "cancel", "subscription", "receipt", "wrong", "amount", "twice", "if", "from", "where", "abroad"),
]


def sentences(count: int, rng: random.Random) -> list[str]:
    """Texts of 10 to 24 words."""
    return [" ".join(rng.choice(WORDS) for _ in range(rng.randint(10, 24))).capitalize() + "." for _ in range(count)]


def splits(texts: list[str], test: int, leaks: int, rng: random.Random) -> tuple[list[str], list[str], dict[int, str]]:
    """Train, test, and which rows of test are copies of rows of train: exact, or after an edit of one of the KINDS."""
    train, rest = texts[test:], texts[:test]
    kinds = ["exact", *KINDS]
    found = {}
    for i, row in enumerate(rng.sample(range(len(rest)), leaks)):
        kind = kinds[i % len(kinds)]
        text = rng.choice(train)
        rest[row] = text if kind == "exact" else KINDS[kind](text, rng)
        found[row] = kind
    return train, rest, found


def _units(text: str) -> tuple[list[str], str]:
    """The words of a text and what joins them; two characters are a word where there are no spaces."""
    words = text.split()
    if len(words) * 15 > len(text):
        return words, " "
    return [text[i : i + 2] for i in range(0, len(text), 2)], ""


def _letter(text: str, rng: random.Random) -> str:
    """A letter is doubled, left out, or changes places with the next."""
    place = rng.randrange(len(text) - 1)
    one, two = text[place : place + 2]
    return text[:place] + rng.choice([one + one + two, two, two + one]) + text[place + 2 :]


def _word(text: str, rng: random.Random) -> str:
    """One word in ten is another of the same text."""
    words, space = _units(text)
    for place in rng.sample(range(len(words)), max(1, len(words) // 10)):
        words[place] = rng.choice(words)
    return space.join(words)


def _without_word(text: str, rng: random.Random) -> str:
    words, space = _units(text)
    del words[rng.randrange(len(words))]
    return space.join(words)


def _punctuation(text: str, rng: random.Random) -> str:
    return re.sub(r"[^\w\s'$&]", " ", text).strip() + rng.choice("!.?;")


def _spacing(text: str, rng: random.Random) -> str:
    """A space is left out, another is doubled."""
    words, space = _units(text)
    place = rng.randrange(1, max(2, len(words) - 1))
    return space.join(words[:place]) + space.join(words[place:]).replace(" ", "  ", 1)


KINDS = {
    "case": lambda text, rng: text.title() if text.lower() == text else text.lower(),
    "punctuation": _punctuation,
    "spacing": _spacing,
    "letter": _letter,
    "word in ten": _word,
    "word left out": _without_word,
}
