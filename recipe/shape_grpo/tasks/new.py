"""Starter files of a custom task: a folder of short files that run unchanged.

    python -m recipe.shape_grpo.tasks new my_task [--output DIR]

The folder gets the prompts, the reward function and a test; `config/task/my_task.yaml` in this
clone makes the task available to every command as `+task=my_task`. The files are copies of
`template/` under the task's name.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from recipe.shape_grpo.common.methods import CONFIG

TEMPLATE = Path(__file__).parent / "template"
CONFIGS = CONFIG / "task"


def new_task(name: str, folder: Path, configs: Path = CONFIGS) -> list[Path]:
    """Write the files of a task called `name`, and return their paths.

    Args:
        name: Name of the task, of lower case letters, digits and _.
        folder: Folder of its files; the configuration has this path as given.
        configs: Folder of its configuration.

    Raises:
        ValueError: The name has other characters.
        FileExistsError: One of the files exists; nothing was written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"{name!r} cannot name a task: use lower case letters, digits and _")
    files = dict(_files(name, folder, configs))
    for path in files:
        if path.exists():
            raise FileExistsError(f"{path} already exists: choose another name, or remove it")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        path.write_text(text)
    return list(files)


def _files(name: str, folder: Path, configs: Path) -> Iterator[tuple[Path, str]]:
    for template in sorted(TEMPLATE.glob("*.*")):
        text = template.read_text().replace("my_folder", str(folder)).replace("my_task", name)
        if template.suffix == ".yaml":
            yield configs / f"{name}.yaml", text
        else:
            yield folder / template.name.replace("my_task", name), text
