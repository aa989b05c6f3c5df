"""What a run may use, and how it ended."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from shape_grpo.sandbox.inside import values


class SandboxError(RuntimeError):
    """The sandbox itself failed; says nothing about the code it should have run."""


@dataclass(frozen=True)
class Limits:
    """What one run may use.

    Attributes:
        seconds: wall clock, from the job's arrival to the reply; also processor time a process.
        memory: bytes of address space, a process.
        processes: processes and threads alive at once.
        disk: bytes written in the temporary directory.
        output: bytes printed, and bytes of the reply.
    """

    seconds: float = 10.0
    memory: int = 4 << 30
    processes: int = 32
    disk: int = 64 << 20
    output: int = 32 << 20

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"the sandbox limit {name} is {value!r}: use a number above 0")


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: "done"; "error" (an exception, or a value that cannot be handed over); "timeout";
            "output" (more than `Limits.output`); "died" (no reply: killed, or os._exit).
        detail: the traceback or the reason; empty if done.
        printed: what the code wrote to stdout and stderr.
        reply: the values asked for, encoded (`values()` decodes).
    """

    status: Literal["done", "error", "timeout", "output", "died"]
    detail: str = ""
    printed: str = ""
    reply: bytes = b"{}"

    def values(self) -> dict[str, Any]:
        """The variables asked for, rebuilt from plain data: never unpickled.

        Raises:
            ValueError: the run sent something that is no encoded value.
        """
        return {name: values.decode(tree) for name, tree in json.loads(self.reply).items()}
