"""Cost of the transfer of dense (N, T) advantages and returns through the TransferQueue.

    python -m recipe.shape_grpo.bench transfer

With real TransferQueue actors, one process writes both tensors and another reads them, as verl's
trainer and workers do. The reference is a lower bound of a step's time on GPUs: the arithmetic of a
policy with P = 8 billion parameters (per token 2 P to sample, 2 P for the old log-probability, 6 P
to train) at 40% of the 989 TFLOP/s of an H100.
"""

import time

import torch
from rich.console import Console
from rich.table import Table

FIELDS = ("advantages", "returns")
PARAMETERS = 8e9
FLOPS_PER_TOKEN = 10 * PARAMETERS
FLOPS_PER_SECOND = 0.4 * 989e12
GPUS = (2, 8, 64)


def transfer_seconds(n: int, t: int) -> tuple[float, float]:
    """Return the seconds to write and to read both fields."""
    import ray
    import transfer_queue as tq
    from hydra import compose, initialize_config_module
    from tensordict import TensorDict

    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer").transfer_queue
    config.enable = True
    config.backend.SimpleStorage.num_data_storage_units = 1
    ray.init(include_dashboard=False, log_to_driver=False)
    tq.init(config)

    @ray.remote
    def read(keys: list[str]) -> float:
        tq.init()
        started = time.perf_counter()
        data = tq.kv_batch_get(keys=keys, partition_id="train", select_fields=list(FIELDS))
        assert data["advantages"].shape[0] == len(keys)
        return time.perf_counter() - started

    keys = [f"{row}_0_0" for row in range(n)]
    rows = torch.randn(n, t)
    nested = torch.nested.as_nested_tensor(list(rows), layout=torch.jagged)
    fields = TensorDict(dict.fromkeys(FIELDS, nested), batch_size=n)
    started = time.perf_counter()
    tq.kv_batch_put(keys=keys, partition_id="train", fields=fields)
    written = time.perf_counter() - started
    seconds_to_read = ray.get(read.remote(keys))
    tq.close()
    ray.shutdown()
    return written, seconds_to_read


def run(responses: int = 8192, tokens: int = 8192) -> None:
    """Print what advantages and returns cost on their way through the TransferQueue.

    Args:
        responses: N, rows of both tensors.
        tokens: T, columns of both tensors.
    """
    console = Console(width=100)
    n, t = responses, tokens
    console.print(f"Moving two float32 tensors of {n:,} x {t:,} ...")
    written, read = transfer_seconds(n, t)
    size = len(FIELDS) * n * t * 4
    console.print(
        f"{size / 1e6:.0f} MB: written in {written:.2f} s ({size / written / 1e6:.0f} MB/s), "
        f"read in {read:.2f} s ({size / read / 1e6:.0f} MB/s)"
    )
    table = Table(title="Share of a step (lower bound of its time)")
    for heading in ("H100s", "step, s", "writing and reading"):
        table.add_column(heading, justify="right")
    for gpus in GPUS:
        step = n * t * FLOPS_PER_TOKEN / (gpus * FLOPS_PER_SECOND)
        table.add_row(f"{gpus}", f"{step:,.0f}", f"{(written + read) / step:.2%}")
    console.print(table)
