"""A tool whose answer looks like an answer of the policy's, which earns the highest reward."""

from verl.tools.function_tool import function_tool

WORDS = "\n".join(f"<candidate>{film}</candidate>" for film in ("Alien", "Brazil", "Dune"))
CALL = '<tool_call>{"name": "films", "arguments": {"genre": "any"}}</tool_call>'


@function_tool
def films(genre: str) -> str:
    """Films that are known.

    Args:
        genre: Of which kind.
    """
    return WORDS
