"""Starter files of a custom task: a folder of short files that run unchanged.

    python -m recipe.shape_grpo.tasks new my_task [--format json] [--reward set] [--output DIR]

The folder gets the prompts, the reward function and a test; `config/task/my_task.yaml` in this
clone makes the task available to every command as `+task=my_task`, and `config/scale/my_task.yaml`
a short training of it without a GPU as `+scale=my_task`. The files are copies of `template/` under
the task's name.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from recipe.shape_grpo.common.methods import CONFIG
from recipe.shape_grpo.tasks.reward_kinds import REWARD_KINDS, RewardKind
from shape_grpo.candidates import make_format

DEFAULT = REWARD_KINDS["candidate", True]
TEMPLATE = Path(__file__).parent / "template"
CONFIGS = CONFIG


def new_task(
    name: str,
    folder: Path,
    configs: Path | None = None,
    *,
    form: str = "xml",
    kind: RewardKind = DEFAULT,
) -> list[Path]:
    """Write the files of a task called `name`, and return their paths.

    Args:
        name: Name of the task, of lower case letters, digits and _.
        folder: Folder of its files; the configuration has this path as given.
        configs: Folder of its configuration. Default: `config`.
        form: How answers hold candidates, a format without options.
        kind: The reward function and its utility.

    Raises:
        ValueError: The name has other characters, or the format needs options.
        FileExistsError: One of the files exists; nothing was written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"{name!r} cannot name a task: use lower case letters, digits and _")
    make_format(form)
    function = inspect.getsource(kind.function)
    target = "utility" if kind.utility == "oracle" else "compute_score"
    function = function.replace(f"def {kind.function.__name__}(", f"def {target}(")
    choices = {
        inspect.getsource(DEFAULT.function): function,
        "utility: coverage": f"utility: {kind.utility}",
        "name: compute_score": f"name: {target}",
        "format: xml": f"format: {form}",
        'make_format("xml")': f'make_format("{form}")',
        "my_folder": str(folder),
        "my_task": name,
    }
    files = dict(_files(choices, name, folder, configs or CONFIGS))
    for path in files:
        if path.exists():
            raise FileExistsError(f"{path} already exists: choose another name, or remove it")
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return list(files)


def _files(
    choices: dict[str, str], name: str, folder: Path, configs: Path
) -> Iterator[tuple[Path, str]]:
    for template in sorted(TEMPLATE.glob("*.*")):
        text = template.read_text()
        for written, chosen in choices.items():
            text = text.replace(written, chosen)
        if template.suffix == ".yaml":
            yield configs / template.stem / f"{name}.yaml", text
        else:
            yield folder / template.name.replace("my_task", name), text
