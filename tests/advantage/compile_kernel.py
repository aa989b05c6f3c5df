"""Compiles the kernel for GPUs that need not be there, as a launch would, and prints the widths of
their stores, one line a compilation. Run in a process of its own, without Triton's interpreter."""

import re

from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from shape_grpo.advantage.kernels import scatter


def compile_for(architecture, kernel, types, constants):
    """PTX; pointers and sizes are multiples of 16, as a launch would find."""
    names = kernel.arg_names
    signature = {name: types.get(name, "i64") for name in names}
    signature |= dict.fromkeys(constants, "constexpr")
    aligned = ("tokens", "response_mask", "mask_row", "T")
    source = ASTSource(
        kernel,
        signature,
        {(names.index(name),): value for name, value in constants.items()},
        {(names.index(name),): [["tt.divisibility", 16]] for name in aligned},
    )
    return compile(source, target=GPUTarget("cuda", architecture, 32)).asm["ptx"]


def main():
    for architecture in (80, 90):
        for value, mask in (("fp32", "i1"), ("bf16", "i64"), ("fp16", "fp32")):
            types = {name: f"*{value}" for name in ("candidate", "shared", "tokens")}
            types |= {"starts": "*i64", "ends": "*i64", "response_mask": f"*{mask}"}
            types |= {"T": "i32", "K": "i32"}
            strides = ("candidate_column", "shared_row", "starts_column", "ends_column")
            constants = dict.fromkeys((*strides, "mask_column"), 1) | {"BLOCK": scatter.BLOCK}
            ptx = compile_for(architecture, scatter._scatter_kernel, types, constants)
            stores = sorted(set(re.findall(r"st\.global\S*", ptx)))
            print(architecture, value, mask, *stores, sep=";")


if __name__ == "__main__":
    main()
