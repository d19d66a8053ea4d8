"""The section `data.clean`: how texts are cleaned, and which training examples are left out."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from jaxft.config.limits import Fraction, Limit, PositiveInt, ProperFraction, Section, require
from jaxft.config.used_by import PLAN_AND_EVALUATE, UsedBy
from jaxft.core import patterns
from jaxft.core.errors import UserError, nearest

# Of Unicode 16 (Scripts.txt); all but Common, Inherited and Unknown, to which characters of many languages belong.
_SCRIPTS = """
    Adlam Ahom Anatolian_Hieroglyphs Arabic Armenian Avestan Balinese Bamum Bassa_Vah Batak Bengali Bhaiksuki Bopomofo
    Brahmi Braille Buginese Buhid Canadian_Aboriginal Carian Caucasian_Albanian Chakma Cham Cherokee Chorasmian Coptic
    Cuneiform Cypriot Cypro_Minoan Cyrillic Deseret Devanagari Dives_Akuru Dogra Duployan Egyptian_Hieroglyphs Elbasan
    Elymaic Ethiopic Garay Georgian Glagolitic Gothic Grantha Greek Gujarati Gunjala_Gondi Gurmukhi Gurung_Khema Han Hangul
    Hanifi_Rohingya Hanunoo Hatran Hebrew Hiragana Imperial_Aramaic Inscriptional_Pahlavi Inscriptional_Parthian Javanese
    Kaithi Kannada Katakana Kawi Kayah_Li Kharoshthi Khitan_Small_Script Khmer Khojki Khudawadi Kirat_Rai Lao Latin Lepcha
    Limbu Linear_A Linear_B Lisu Lycian Lydian Mahajani Makasar Malayalam Mandaic Manichaean Marchen Masaram_Gondi
    Medefaidrin Meetei_Mayek Mende_Kikakui Meroitic_Cursive Meroitic_Hieroglyphs Miao Modi Mongolian Mro Multani Myanmar
    Nabataean Nag_Mundari Nandinagari New_Tai_Lue Newa Nko Nushu Nyiakeng_Puachue_Hmong Ogham Ol_Chiki Ol_Onal
    Old_Hungarian Old_Italic Old_North_Arabian Old_Permic Old_Persian Old_Sogdian Old_South_Arabian Old_Turkic Old_Uyghur
    Oriya Osage Osmanya Pahawh_Hmong Palmyrene Pau_Cin_Hau Phags_Pa Phoenician Psalter_Pahlavi Rejang Runic Samaritan
    Saurashtra Sharada Shavian Siddham SignWriting Sinhala Sogdian Sora_Sompeng Soyombo Sundanese Sunuwar Syloti_Nagri
    Syriac Tagalog Tagbanwa Tai_Le Tai_Tham Tai_Viet Takri Tamil Tangsa Tangut Telugu Thaana Thai Tibetan Tifinagh Tirhuta
    Todhri Toto Tulu_Tigalari Ugaritic Vai Vithkuqi Wancho Warang_Citi Yezidi Yi Zanabazar_Square
    """
SCRIPTS = tuple(_SCRIPTS.split())


def _check_scripts(name: str, value: object) -> None:
    require(bool(value), name, value, "null, or one or more names of Unicode scripts")
    for script in value if isinstance(value, list) else []:
        if script not in SCRIPTS:
            advice = nearest(script, SCRIPTS) or "; names are those of Unicode, such as Latin, Cyrillic, Arabic or Han"
            raise UserError(f'{name} has "{script}", which is not a Unicode script{advice}')


@dataclass(frozen=True)
class CleanRuleConfig(Section):
    """A replacement of your own in texts."""

    pattern: Annotated[str, Limit("a regular expression", bool)]
    """Regular expression (Python's re) whose matches are replaced, from left to right."""
    replacement: str = ""
    r"""Text in their place; \1 or \g<name> stands for a group of the pattern."""

    def check(self, prefix: str) -> None:
        """The pattern is a regular expression, and the replacement refers to its groups."""
        patterns.check(self.pattern, prefix.strip())
        try:
            re.sub(self.pattern, self.replacement, "")
        except (re.error, IndexError) as error:
            raise UserError(
                f'{prefix}"{self.pattern}": the replacement "{self.replacement}" is not valid: {error}'
            ) from error


@dataclass(frozen=True)
class CleanConfig(Section):
    """Cleaning. Texts are changed alike in training, evaluation and prediction, in the order of the options below;
    predictions refer to the texts as they are in the file. Examples are left out of training data only."""

    used_by = PLAN_AND_EVALUATE

    html_tags: bool = False
    """Remove HTML tags, comments, scripts and styles."""
    html_entities: bool = False
    """Replace HTML entities, such as &amp; and &#39;, by their characters."""
    unicode: Literal["NFC", "NFKC"] | None = None
    """Unicode normalisation: NFC composes accents, NFKC also replaces compatibility characters, such as full-width
    letters."""
    control_characters: bool = False
    """Remove control characters, soft hyphens, zero-width spaces and byte order marks, but not tabs, line ends and what
    emoji and scripts need."""
    rules: list[CleanRuleConfig] = field(default_factory=list)
    """Your own replacements in order, each {pattern, replacement}; an empty replacement removes boilerplate."""
    whitespace: bool = False
    """Make every run of white space one space, and remove it at both ends of a text."""
    duplicates: Annotated[Literal["keep", "exact", "near"], UsedBy.PLAN] = "keep"
    """Training examples that repeat an earlier one with the same label: keep, or leave out exact ones (apart from case,
    white space and compatibility characters), or near ones, too."""
    near_similarity: Annotated[ProperFraction, UsedBy.PLAN] = 0.75
    """Smallest Jaccard similarity of the shingles of two near duplicates, above 0 and below 1."""
    leaks: Annotated[Literal["keep", "drop"], UsedBy.PLAN] = "keep"
    """Training examples that are also in the validation or test data, exactly or nearly: keep or drop."""
    conflicts: Annotated[Literal["keep", "drop"], UsedBy.PLAN] = "keep"
    """Training examples whose text also occurs with another label: keep or drop all of them."""
    min_words: Annotated[PositiveInt | None, UsedBy.PLAN] = None
    """Drop training examples with fewer words; a character of a script without spaces, such as Han, is a word."""
    max_words: Annotated[PositiveInt | None, UsedBy.PLAN] = None
    """Drop training examples with more words."""
    min_known: Annotated[Fraction | None, UsedBy.PLAN] = None
    """Drop training examples in which less than this share of the tokens, from 0 to 1, is in the vocabulary (not the
    unknown token)."""
    scripts: Annotated[list[str] | None, _check_scripts, UsedBy.PLAN] = None
    """Drop training examples in which less than half of the letters belong to these Unicode scripts, such as [Latin] or
    [Han, Hangul]."""

    def check(self, prefix: str) -> None:
        """Rules are valid, and the shortest text is not longer than the longest."""
        for rule in self.rules:
            rule.validate(f"{prefix}rules ")
        if self.min_words and self.max_words:
            right = f"at most {prefix}max_words {self.max_words}"
            require(self.min_words <= self.max_words, f"{prefix}min_words", self.min_words, right)

    @property
    def edits(self) -> bool:
        """Whether texts are changed."""
        changes = (self.html_tags, self.html_entities, self.unicode, self.control_characters, self.rules, self.whitespace)
        return any(changes)

    @property
    def drops(self) -> bool:
        """Whether training examples may be left out."""
        chosen = {self.duplicates, self.leaks, self.conflicts} - {"keep"}
        return bool(chosen) or any(x is not None for x in (self.min_words, self.max_words, self.min_known, self.scripts))
