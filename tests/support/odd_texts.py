"""Odd texts: other scripts, emoji, combining marks, control characters, markup, many spaces; very short to very long."""

import random

PARTS = (
    "the river",
    "Köln",
    "naïve café",
    "New-York's",
    "don't",
    "3.14 %",
    "e\u0301te\u0301",
    "ﬁne print",
    "A.B.C.",
    "http://x.y/z?q=1",
    "東京タワー",
    "北京 是 首都",
    "안녕하세요",
    "สวัสดี",
    "שלום עולם",
    "مرحبا بالعالم",
    "Привет, мир!",
    "Ελλάδα",
    "👩\u200d👩\u200d👧\u200d👦",
    "🇩🇪 flag",
    "👍🏽",
    "\u200b",
    "\xa0",
    "\t",
    "  ",
    "\r\n",
    "\x07",
    "\ufeff",
    "<b>bold</b>",
    "&amp;",
    "[MASK]x",
    "supercalifragilisticexpialidocious",
    "x" * 120,
    "☃",
    "\U0010fffd",
    "—",
    "…",
    "''",
    "``",
    "#tag",
    "@user",
)


def odd_texts(count: int, seed: int = 0, most: int = 24) -> list[str]:
    """Texts of random parts, joined with and without spaces; none is only white space."""
    rng, texts = random.Random(seed), []
    while len(texts) < count:
        parts = rng.choices(PARTS, k=rng.choice([1, 2, 3, 5, 8, most]))
        text = "".join(part + rng.choice(["", " ", " ", "  "]) for part in parts)
        if text.strip():
            texts.append(text)
    return texts
