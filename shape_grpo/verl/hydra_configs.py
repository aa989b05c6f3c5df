"""Configurations of this package that Hydra knows by name, from any folder and search path."""

from pathlib import Path
from types import ModuleType

from omegaconf import OmegaConf

from shape_grpo.methods import METHODS, load_method
from shape_grpo.verl import cpu


def store_configs(config_store: ModuleType) -> None:
    """Store ``shape_grpo: defaults``, the block's defaults, ``+method=NAME`` and ``+backend=cpu``.

    Args:
        config_store: Hydra's module ``hydra.core.config_store``.
    """
    store = config_store.ConfigStore.instance()
    backend = OmegaConf.load(Path(cpu.__file__).with_name("backend.yaml"))
    store.store(group="backend", name="cpu", node=backend, package="_global_")
    for name in METHODS:
        store.store(group="method", name=name, node=load_method(name), package="_global_")

    # Imports torch, which processes that never compose a configuration do without.
    from shape_grpo.config import BLOCK, ShapeGRPOConfig

    defaults = OmegaConf.create(ShapeGRPOConfig.block_defaults())
    store.store(group="shape_grpo", name="defaults", node=defaults, package=BLOCK)
