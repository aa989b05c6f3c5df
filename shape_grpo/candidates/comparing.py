"""Texts by which candidates count as equal."""

from __future__ import annotations

import re
import unicodedata

# Not the tag characters: flags of England and Scotland differ in them alone.
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0100-\U000e01ef]"
)
"""Characters without width: joiners, directions, soft hyphens and variation selectors (Unicode's
Default_Ignorable_Code_Point, https://www.unicode.org/reports/tr44/)."""


def comparable_text(text: str) -> str:
    """Return the text by which candidates count as equal.

    White space, case, zero-width characters and compatible forms (NFKC: full-width letters,
    ligatures, accents as characters of their own) do not matter.
    """
    if not text.isascii():
        text = _INVISIBLE.sub("", text)
        # Folding undoes the composition, as Unicode's definition D146 of caseless matching has it.
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(text.casefold().split())
