"""Limits of a run, and its outcome."""

import json
from dataclasses import dataclass
from typing import Any, Literal

from shape_grpo.sandbox.inside import values


class SandboxError(RuntimeError):
    """Failure of the sandbox itself, not of the code that it should have run."""


@dataclass(frozen=True)
class Limits:
    """Limits of one run.

    Attributes:
        seconds: wall-clock time from the job's arrival to the reply; also processor time per
            process.
        memory: bytes of address space per process; `memory` + `disk` is the limit in bytes of the
            memory that all processes use together.
        processes: processes and threads alive at once.
        disk: bytes written in the temporary directory, in at max_bytes 10,000 files.
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
    """Outcome of a run.

    Attributes:
        status: "done"; "error" (an exception, or a value that cannot be handed over); "timeout";
            "output" (more than `Limits.output`); "died" (no reply: killed, or os._exit). The code
            causes each of these; any other failure is a `SandboxError`.
        detail: the traceback or the reason; empty if done.
        printed: the code's output on stdout and stderr.
        reply: the requested values as the run encoded them; JSON unless the code forged them.
    """

    status: Literal["done", "error", "timeout", "output", "died"]
    detail: str = ""
    printed: str = ""
    reply: bytes = b"{}"

    def values(self, max_bytes: int = 1 << 20) -> dict[str, Any]:
        """Return the requested variables, rebuilt from plain data without pickle.

        Args:
            max_bytes: longest reply that is decoded in this process, which takes about 50 times
                its size in memory and up to a second per megabyte. Decode longer ones where they
                are compared, in another run (`inside/values.py`).

        Raises:
            ValueError: the reply is longer, or is not an encoded value. The code causes both.
        """
        if len(self.reply) > max_bytes:
            raise ValueError(
                f"the reply has {len(self.reply)} bytes, more than the {max_bytes} decoded "
                "here: decode it in another run (inside/values.py), or call values(max_bytes=N)"
            )
        try:
            trees = json.loads(self.reply)
            return {name: values.decode(tree) for name, tree in trees.items()}
        except (AttributeError, RecursionError) as error:
            raise ValueError(f"not encoded values: {error!r}") from None
