"""Checks for keys that verl would never read, and for values that it must not print."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from shape_grpo.registry import closest

SECRET = re.compile(r"(api_?key|access_?key|secret|password|(^|_)token)$", re.IGNORECASE)
# For environment variables, any key; in a configuration, prompt_key and others name columns.
SECRET_VARIABLE = re.compile(r"(key|secret|password|token)$", re.IGNORECASE)


def check_keys(config: DictConfig) -> None:
    """Check that no key is a misspelt key of verl's, and that none holds a secret.

    Hydra accepts any key from a file, and from a flag that begins with ``+``, as its own message
    about a misspelt key advises.

    Raises:
        ValueError: A key is misspelt or holds a secret; the message says what to write instead.
    """
    plain = OmegaConf.to_container(config)
    assert isinstance(plain, dict)
    for where, value in leaves(plain):
        pattern = SECRET_VARIABLE if ".env_vars." in where else SECRET
        if pattern.search(where.rpartition(".")[2]) and isinstance(value, str) and value:
            raise ValueError(
                f"{where}: verl prints its whole configuration, secrets included. Remove the key, "
                "and set the secret in the environment where the run (or Ray) is started; for a "
                "judge, reward.custom_reward_function.reward_kwargs.api_key_env names the variable."
            )
    # verl's files do not list most of Ray's own arguments.
    plain.pop("ray_kwargs", None)
    misspelt: dict[str, str] | None = None
    for reference in references():
        found = dict(_misspelt(plain, reference))
        misspelt = found if misspelt is None else {k: misspelt[k] for k in misspelt if k in found}
        if not misspelt:
            return
    for where, correct in (misspelt or {}).items():
        raise ValueError(f"{where}: verl has no such key. Did you mean {correct}?")


def config_folder() -> Path:
    """Return the folder of verl's configuration, without importing verl.

    Raises:
        ValueError: verl is not installed.
    """
    verl = find_spec("verl")
    if verl is None or not verl.submodule_search_locations:
        raise ValueError("verl is not installed: pip install verl==0.9.1")
    return Path(verl.submodule_search_locations[0]) / "trainer/config"


def references() -> Iterator[Any]:
    """Yield verl's whole configuration per engine: FSDP's first, the others have further keys."""
    # The shortest name is FSDP's.
    names = config_folder().glob("_generated_ppo_*trainer.yaml")
    for path in sorted(names, key=lambda path: len(path.name)):
        yield _read(path)


@lru_cache
def _read(path: Path) -> Any:
    with path.open() as file:
        return yaml.load(file, getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def _misspelt(
    config: Mapping[Any, Any], known: Mapping[Any, Any], where: str = ""
) -> Iterator[tuple[str, str]]:
    """Yield keys that nearly match a key of ``known``, each with that key."""
    for key, value in config.items():
        if key in known:
            if isinstance(value, Mapping) and isinstance(known[key], Mapping):
                yield from _misspelt(value, known[key], f"{where}{key}.")
        # Only close matches: verl also reads keys that its files do not list.
        elif close := closest(str(key), map(str, known), cutoff=0.8):
            yield f"{where}{key}", f"{where}{close}"


def leaves(config: Mapping[Any, Any], where: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each dotted key and value of a configuration; a list is one value."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{where}{key}.")
        else:
            yield f"{where}{key}", value
