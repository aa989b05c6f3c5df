"""Without a GPU, Triton's kernels run under its interpreter, which has to be asked for before the
first import of triton. The variable is not left behind for the processes that tests start."""

import logging
import os

import pytest
import torch

if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
    import triton

    triton.knobs.runtime.interpret = True
    del os.environ["TRITON_INTERPRET"]


@pytest.fixture(autouse=True)
def logged_from_warnings_up(caplog):
    """Let `caplog` see warnings: vLLM's imports set the root logger of a process to ERROR."""
    caplog.set_level(logging.WARNING)
