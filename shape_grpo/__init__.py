"""ShapE-GRPO for verl and TRL: Shapley-value credit for answers that hold a set of candidates.

The rooms, each importable on its own (importing this package alone loads no torch and no verl):

- ``shape_grpo.credit``: a set's rewards to each candidate's share.
- ``shape_grpo.candidates``: response text to candidates and their exact token spans.
- ``shape_grpo.advantage``: rewards, spans and groups to advantages of tokens.
- ``shape_grpo.config``: all settings, validated.
- ``shape_grpo.rewards``: calls of reward functions, with timeouts and failures.
- ``shape_grpo.explain``: a credited response, for the terminal, as Markdown and as HTML.
- ``shape_grpo.verl``: the estimator, the reward manager and the trainers that verl loads by name.
- ``shape_grpo.trl``: the trainer for TRL.
"""


def __getattr__(name: str) -> str:
    """Return ``__version__`` from the metadata of the installed package, read when asked for."""
    if name == "__version__":
        from importlib.metadata import version

        return version("shape-grpo")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
