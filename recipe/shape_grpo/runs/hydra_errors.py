"""Messages for overrides that Hydra refuses, or would take as a key that nothing reads."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from recipe.shape_grpo.common.overrides import override
from shape_grpo.registry import closest, did_you_mean

GROUPS = ("task", "method", "scale", "backend")
"""Folders of `config` whose files are added by +GROUP=NAME."""


def check_groups(overrides: Sequence[str], config: DictConfig) -> None:
    """Check for misspelt groups: Hydra adds +methd=praise as a key that nothing reads.

    Raises:
        ValueError: A group is misspelt; the message says what to write.
    """
    for text in overrides:
        added = re.fullmatch(r"\+(\w+)=([\w./-]+)", text)
        if added and added[1] not in GROUPS and isinstance(config.get(added[1]), str | int):
            close = closest(added[1], GROUPS)
            if close and closest(added[1], set(map(str, config)) - {added[1]}, 0.8) is None:
                raise ValueError(f"{text}: Did you mean +{close}={added[2]}?")


def what_is_wrong(
    error: HydraException | OmegaConfBaseException,
    overrides: Sequence[str] = (),
    whole: DictConfig | None = None,
) -> str:
    """Return Hydra's message in one line, with what to write.

    Hydra itself advises a + before an unknown key, which would add a key that nothing reads.

    Args:
        error: What Hydra raised.
        overrides: The overrides.
        whole: The configuration without those that are no groups.
    """
    text = str(error)
    if isinstance(error, OverrideParseException) and "=" in error.override:
        key, _, value = error.override.partition("=")
        advice = shlex.quote(override(key, value))
        return f"{error.override}: Hydra cannot read this value. If it is text, write {advice}"
    if isinstance(error, MissingConfigException) and error.options:
        group, _, name = str(error.missing_cfg_file).partition("/")
        written = next((o for o in overrides if o.endswith(f"{group}={name}")), f"{group}={name}")
        is_gpu = group == "backend" and name == "gpu"
        hint = " Leave it out." if is_gpu else did_you_mean(name, error.options)
        return f"{written}: there is no {name}.{hint} There are: {', '.join(error.options)}."
    for written in overrides:
        group, equals, name = written.lstrip("+").partition("=")
        if not equals and not written.startswith("~"):
            return f"{written}: write KEY=VALUE, or +GROUP=NAME as +method=praise."
        if group in GROUPS and not re.match(r"\+\w", written) and group in text:
            return f"{written}: write +{group}={name}."
    if several := re.match(r"Multiple values for (\w+)\.", text):
        return f"+{several[1]} is there twice: write one +{several[1]}=NAME."
    misspelt = re.match(r"Could not override '(.+)'", text)
    if misspelt and whole is not None:
        where, _, name = misspelt[1].rpartition(".")
        block = OmegaConf.select(whole, where) if where else whole
        if isinstance(block, DictConfig) and name not in block:
            keys = sorted(map(str, block))
            close = closest(name, keys)
            prefix = f"{where}." if where else ""
            hint = f"Did you mean {prefix}{close}?" if close else f"There are: {', '.join(keys)}."
            return f"{misspelt[1]}: there is no such key. {hint}"
    reasons = [text, str(error.__cause__ or "")]
    return " ".join(line for reason in reasons for line in reason.splitlines()[:2])
