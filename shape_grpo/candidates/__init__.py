"""From a response to its candidates, and from candidates to the tokens that carry them.

Works on plain strings and lists of token ids; needs no torch and no verl.
"""

from shape_grpo.candidates.candidate import Candidate, ResponseText
from shape_grpo.candidates.candidate_set import CandidateSet, CheckedCandidate
from shape_grpo.candidates.comparing import comparable_text
from shape_grpo.candidates.families import FAMILIES, Marks
from shape_grpo.candidates.finding import find_candidates, find_in_text
from shape_grpo.candidates.formats import FORMATS, Format, make_format, register_format
from shape_grpo.candidates.parsing import parse_candidates
from shape_grpo.candidates.rules import RULES, CandidateRules
from shape_grpo.candidates.spans import decode_response, token_spans
from shape_grpo.candidates.thoughts import Thoughts
from shape_grpo.candidates.turns import end_of_turn_ids, turns_of

__all__ = [
    "FAMILIES",
    "FORMATS",
    "RULES",
    "Candidate",
    "CandidateRules",
    "CandidateSet",
    "CheckedCandidate",
    "Format",
    "Marks",
    "ResponseText",
    "Thoughts",
    "comparable_text",
    "decode_response",
    "end_of_turn_ids",
    "find_candidates",
    "find_in_text",
    "make_format",
    "parse_candidates",
    "register_format",
    "token_spans",
    "turns_of",
]
