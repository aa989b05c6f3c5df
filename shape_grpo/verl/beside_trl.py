"""Patch that lets verl 0.9.1 run beside a newer TRL.

If TRL is installed, verl's FSDP engine changes TRL's ``AutoModelForCausalLMWithValueHead`` whenever
it builds a model, needed or not. TRL 1.14 and later lack that class (1.10 has it), so every run
would end with an ImportError. In that case only, the module is told that TRL is not installed,
which it asks for no other purpose. `shape_grpo.plugin` loads this after the module.
"""

import warnings
from importlib.util import find_spec

from verl.models.transformers import monkey_patch
from verl.utils.import_utils import is_trl_available

with warnings.catch_warnings():
    # TRL warns that it is experimental, even if only verl uses it.
    warnings.simplefilter("ignore")
    lacks_the_class = is_trl_available() and find_spec("trl.experimental.ppo") is None

if lacks_the_class:
    monkey_patch.is_trl_available = lambda: False  # type: ignore[assignment,attr-defined]
