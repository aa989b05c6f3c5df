"""Rewards of whole sets, for real runs: a judge that compares, a function of subsets, vectors."""

import json
import urllib.request

VOWELS = "aeiou"


def ask_judge(solution_strs, ground_truth, url, **arguments):
    """One request per response; the judge's scores depend on the others in the list."""
    body = json.dumps({"solutions": solution_strs, "truth": ground_truth}).encode()
    with urllib.request.urlopen(url, data=body, timeout=60) as answer:
        return json.load(answer)


def judged(solutions):
    """Scores of the judge: 1 more than the number of shorter texts in the list."""
    return [1 + sum(len(other) < len(text) for other in solutions) for text in solutions]


def utility(solutions, **arguments):
    """Number of different letters: a repeat adds nothing."""
    return len(set("".join(solutions).lower()))


def vowels(solution_str, **arguments):
    """How often each vowel occurs."""
    return [float(solution_str.lower().count(vowel)) for vowel in VOWELS]
