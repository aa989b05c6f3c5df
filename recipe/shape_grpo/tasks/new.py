"""A task of one's own, to begin with: a folder of short files that run as they are.

    python -m recipe.shape_grpo.tasks new my_task [--output DIR]

The folder gets the prompts, the reward function and a test; `config/task/my_task.yaml`, in this
clone, makes it `+task=my_task` of every command. The files are those of `template/`, under the
task's name.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from recipe.shape_grpo.common.methods import CONFIG

TEMPLATE = Path(__file__).parent / "template"
CONFIGS = CONFIG / "task"


def new_task(name: str, folder: Path, configs: Path = CONFIGS) -> list[Path]:
    """Write the files of a task that is called `name`, and return their paths.

    Args:
        name: Of the task, in lower case, as Python's names are.
        folder: Where its files go; the configuration holds this path as it is given.
        configs: Where its configuration goes.

    Raises:
        ValueError: It is no name.
        FileExistsError: One of the files is there; nothing was written.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"{name!r} is no name for a task: use lower case letters, digits and _")
    files = dict(_files(name, folder, configs))
    for path in files:
        if path.exists():
            raise FileExistsError(f"{path} is there already: choose another name, or remove it")
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
