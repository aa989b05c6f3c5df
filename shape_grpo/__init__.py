"""ShapE-GRPO for verl and TRL: Shapley-value credit for answers that hold a set of candidates.

The rooms, each importable on its own (importing this package alone loads neither torch nor verl):

- ``shape_grpo.credit``: a set's rewards to each candidate's share.
- ``shape_grpo.candidates``: response text to candidates and their exact token spans.
- ``shape_grpo.advantage``: rewards, spans and groups to advantages of tokens.
- ``shape_grpo.config``: all settings, validated.
- ``shape_grpo.verl``: the estimator, the reward manager and the trainers that verl loads by name.
- ``shape_grpo.trl``: the trainer for TRL.
"""

__version__ = "0.1.0"
