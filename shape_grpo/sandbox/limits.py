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
        memory: bytes of address space, a process; and, with `disk`, of memory in use by all of
            them together.
        processes: processes and threads alive at once.
        disk: bytes written in the temporary directory, in at most 10,000 files.
        output: bytes printed, and bytes of the reply; the caller holds about six times as much.
    """

    seconds: float = 10.0
    memory: int = 4 << 30
    processes: int = 32
    disk: int = 64 << 20
    output: int = 8 << 20

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"the sandbox limit {name} is {value!r}: use a number above 0")


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes:
        status: "done"; "error" (an exception, or a value that cannot be handed over); "timeout";
            "output" (more than `Limits.output`); "died" (no reply: killed, or os._exit). Each is
            the code's doing; what is not is a `SandboxError`.
        detail: the traceback or the reason; empty if done.
        printed: what the code wrote to stdout and stderr.
        reply: the values asked for, as the run encoded them: JSON, if it is honest.
    """

    status: Literal["done", "error", "timeout", "output", "died"]
    detail: str = ""
    printed: str = ""
    reply: bytes = b"{}"

    def values(self, most: int = 1 << 20) -> dict[str, Any]:
        """The variables asked for, rebuilt from plain data: never unpickled.

        Args:
            most: bytes of a reply that are decoded in this process, at about 50 times their size
                in memory and a second a megabyte at worst. Longer ones are better decoded where
                they are compared, in another run (`inside/values.py`).

        Raises:
            ValueError: the reply is longer, or is no encoded value. Both are the code's doing.
        """
        if len(self.reply) > most:
            raise ValueError(
                f"the reply has {len(self.reply)} bytes, and more than {most} are not decoded in "
                "this process: decode it in another run (inside/values.py), or call values(most=N)"
            )
        try:
            trees = json.loads(self.reply)
            return {name: values.decode(tree) for name, tree in trees.items()}
        except (AttributeError, RecursionError) as error:
            raise ValueError(f"no encoded values: {error!r}") from None
