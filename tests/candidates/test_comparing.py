"""Which texts count as equal."""

# ruff: noqa: RUF001 - letters that look alike are what is compared

import random
import unicodedata

import pytest

from shape_grpo.candidates import comparable_text

ENGLAND, SCOTLAND = (
    "\U0001f3f4" + "".join(chr(0xE0000 + ord(letter)) for letter in region) + "\U000e007f"
    for region in ("gbeng", "gbsct")
)

EQUAL = [
    ("Heat", "HEAT", "case"),
    (" a\n\tb ", "a b", "white space"),
    ("a\u3000b\u00a0c", "a b c", "white space of any script"),
    ("Amélie", "Ame\u0301lie", "composed and decomposed"),
    ("각", "\u1100\u1161\u11a8", "a syllable and its letters"),
    ("a\u0323\u0307", "a\u0307\u0323", "the order of accents"),
    ("ＡＢＣ　１", "abc 1", "full width"),
    ("ﬁlm", "film", "a ligature"),
    ("a…", "a...", "an ellipsis"),
    ("a\u200bb", "ab", "a zero-width space"),
    ("a\u200d\u200cb", "ab", "joiners"),
    ("\ufeffa", "a", "a byte order mark"),
    ("co\u00adoperate", "cooperate", "a soft hyphen"),
    ("\u202aa\u202c\u2066b\u2069", "ab", "directions"),
    ("❤\ufe0f", "❤", "a variation selector"),
    ("葛\U000e0100", "葛", "a variant of an ideograph"),
    ("Straße", "STRASSE", "ß is ss in capitals"),
    ("ẞ", "ß", "capital ß"),
    ("ΣΑΣ", "σας", "final sigma"),
    ("\u212a\u212b", "kå", "the signs of kelvin and angstrom"),
    ("ſ", "S", "long s"),
    ("İ", "i\u0307", "dotted I is i with a dot"),
    ("ǰ", "J\u030c", "a letter whose capital is two characters"),
    ("ᾳ", "ΑΙ", "iota below is iota in capitals"),
    ("", " \u200b\n", "nothing that is visible"),
]
DIFFERENT = [
    ("ı", "i", "dotless i is a letter of its own"),
    ("İ", "i", "a dot counts"),
    ("résumé", "resume", "accents count"),
    (ENGLAND, SCOTLAND, "flags differ in characters without width"),
    (ENGLAND, "\U0001f3f4", "a black flag is none of England"),
    ("🇩🇪", "🇪🇩", "flags of letters"),
    ("👍🏽", "👍", "tones of skin"),
    ("a b", "ab", "white space between words counts"),
    ("a-b", "ab", "a hyphen that is visible"),
    ("ひ", "ヒ", "hiragana and katakana"),
    ("5", "٥", "digits of other scripts"),
]


@pytest.mark.parametrize(("one", "other", "reason"), EQUAL, ids=[case[2] for case in EQUAL])
def test_equal(one, other, reason):
    assert comparable_text(one) == comparable_text(other)


@pytest.mark.parametrize(("one", "other", "reason"), DIFFERENT, ids=[c[2] for c in DIFFERENT])
def test_different(one, other, reason):
    assert comparable_text(one) != comparable_text(other)


# Without the iota below: folding makes it a letter, which keeps the accents behind it.
LETTERS = "aIiİıßſσςΣK\u212bÅéeΑǰjﬁ각\u1100\u1161Ａ \u3000\u200b\u00ad\ufe0f🏴😀\ud800"
ACCENTS = "\u0301\u0307\u0323\u030c\u0338"


def test_forms_of_any_text_are_equal():
    """Every normal form, capitals and small letters, and the comparable text itself."""
    rng = random.Random(0)
    for _ in range(5000):
        text = "".join(rng.choices(LETTERS + ACCENTS, k=rng.randrange(9)))
        name = comparable_text(text)
        for form in ("NFC", "NFD", "NFKC", "NFKD"):
            assert comparable_text(unicodedata.normalize(form, text)) == name, ascii(text)
        assert comparable_text(text.casefold()) == name, ascii(text)
        assert comparable_text(name) == name, ascii(text)


def test_a_name_has_no_capitals():
    """Names of identities do, so that they are no name of a text."""
    for code in range(0x110000):
        name = comparable_text(chr(code))
        assert name == name.casefold().strip(), hex(code)
