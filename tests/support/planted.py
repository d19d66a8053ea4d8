"""Texts with planted duplicates."""

import random

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
    """Train, test, and which rows of test are copies from train: exactly, or after an edit of one of the KINDS."""
    train, rest = texts[test:], texts[:test]
    kinds = ["exact", *KINDS]
    found = {}
    for i, row in enumerate(rng.sample(range(len(rest)), leaks)):
        kind = kinds[i % len(kinds)]
        text = rng.choice(train)
        rest[row] = text.upper() if kind == "exact" else KINDS[kind](text, rng)
        found[row] = kind
    return train, rest, found


def _typo(text: str, rng: random.Random) -> str:
    place = rng.randrange(len(text) - 1)
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]


def _word(text: str, rng: random.Random) -> str:
    words = text.split()
    words[rng.randrange(len(words))] = rng.choice(WORDS)
    return " ".join(words)


def _punctuation(text: str, rng: random.Random) -> str:
    return text.replace(" ", ", ", rng.randint(1, 3)).rstrip(".") + "!"


KINDS = {"typo": _typo, "punctuation": _punctuation, "word": _word}
