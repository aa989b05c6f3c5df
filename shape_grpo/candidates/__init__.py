"""From a response to its candidates, and from candidates to the tokens that carry them.

Works on plain strings and lists of token ids; needs no torch and no verl.
"""

from shape_grpo.candidates.parsing import FORMATS, Candidate, parse_candidates
from shape_grpo.candidates.rules import (
    RULES,
    CandidateRules,
    CandidateSet,
    CheckedCandidate,
    check_candidates,
    comparable_text,
    find_candidates,
)
from shape_grpo.candidates.spans import decode_response, token_spans

__all__ = [
    "FORMATS",
    "RULES",
    "Candidate",
    "CandidateRules",
    "CandidateSet",
    "CheckedCandidate",
    "check_candidates",
    "comparable_text",
    "decode_response",
    "find_candidates",
    "parse_candidates",
    "token_spans",
]
