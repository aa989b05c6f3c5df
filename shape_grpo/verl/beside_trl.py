"""verl 0.9.1 beside a TRL that is newer than it knows: the one thing here that is patched in verl.

Wherever TRL is installed, verl's FSDP engine changes TRL's ``AutoModelForCausalLMWithValueHead``
when it builds a model, needed or not. TRL 1.14 and later (1.10 has it) are without that class, and
every run ends with an ImportError. Then, and only then, that module is told that there is no TRL;
it asks for nothing else. Loaded by `shape_grpo.plugin` after the module.
"""

import warnings
from importlib.util import find_spec

from verl.models.transformers import monkey_patch
from verl.utils.import_utils import is_trl_available

with warnings.catch_warnings():
    # TRL warns of its experiments; verl may be the only one here that wants one.
    warnings.simplefilter("ignore")
    lacks_the_class = is_trl_available() and find_spec("trl.experimental.ppo") is None

if lacks_the_class:
    monkey_patch.is_trl_available = lambda: False  # type: ignore[assignment,attr-defined]
