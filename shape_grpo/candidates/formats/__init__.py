"""Formats of candidates: one file per format, and a registry."""

from shape_grpo.candidates.formats.fenced import Fenced
from shape_grpo.candidates.formats.format import (
    FORMATS,
    Format,
    Found,
    make_format,
    register_format,
)
from shape_grpo.candidates.formats.function import Function
from shape_grpo.candidates.formats.json import Json
from shape_grpo.candidates.formats.lines import Lines
from shape_grpo.candidates.formats.numbered import Numbered
from shape_grpo.candidates.formats.regex import Regex
from shape_grpo.candidates.formats.whole import Whole
from shape_grpo.candidates.formats.xml import Xml

__all__ = [
    "FORMATS",
    "Fenced",
    "Format",
    "Found",
    "Function",
    "Json",
    "Lines",
    "Numbered",
    "Regex",
    "Whole",
    "Xml",
    "make_format",
    "register_format",
]
