"""Text and spans of a response of many candidates, beside one decode of the same ids.

The vocabularies are those that the package mistral_common ships.
"""

import shutil
import tempfile
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from recipe.shape_grpo.bench.measure import cpu_seconds_in_turn
from shape_grpo.candidates import parse_candidates
from shape_grpo.candidates.spans import DecodedTokens

TEKKEN = "tekken_240911.json"
SENTENCEPIECE = "mistral_instruct_tokenizer_240323.model.v3"
TITLES = {
    "English": "The Shawshank Redemption, a film about hope and friendship in a prison; ",
    "Chinese": "肖申克的救赎,一部关于希望与友谊的电影;霸王别姬。",
    "Arabic": "الخلاص من شاوشانك فيلم عن الأمل والصداقة في السجن ",
    "emoji": "😀 👍🏽 👩\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 film 🇩🇪 ",
}
TOKENS = 2000
CANDIDATES = 20
ROUNDS = 200


def tokenizers() -> dict[str, Any]:
    """Return the tokenizers by name: as fast ones, and as mistral_common has them."""
    from transformers import LlamaTokenizer
    from transformers.integrations.mistral import convert_tekken_tokenizer
    from transformers.tokenization_mistral_common import MistralCommonBackend

    folder = Path(str(files("mistral_common") / "data"))
    tekken, sentencepiece = folder / TEKKEN, folder / SENTENCEPIECE
    with tempfile.TemporaryDirectory() as copy:
        shutil.copy(sentencepiece, Path(copy) / "tokenizer.model")
        llama = LlamaTokenizer.from_pretrained(copy)
    return {
        "byte-level, fast": convert_tekken_tokenizer(str(tekken)),
        "SentencePiece, fast": llama,
        "Tekken, mistral_common": MistralCommonBackend(tokenizer_path=str(tekken)),
        "SentencePiece, mistral_common": MistralCommonBackend(tokenizer_path=str(sentencepiece)),
    }


def response(tokenizer: Any, title: str) -> list[int]:
    """Return the ids of a response: candidates of whole titles, up to the length of `TOKENS`."""
    encode = partial(tokenizer.encode, add_special_tokens=False)
    each = TOKENS // CANDIDATES
    candidate = f"<candidate>{title}</candidate>\n"
    while len(encode(longer := candidate.replace("</", f"{title}</"))) <= each:
        candidate = longer
    ids = encode(candidate * CANDIDATES)
    filler = encode(title * TOKENS)[: TOKENS - len(ids)]
    return [*ids, *filler]


def run(console: Console) -> None:
    """Print the time of one decode, and that of the text and the spans as a ratio to it."""
    table = Table(title=f"Text and spans of {CANDIDATES} candidates, {TOKENS:,} tokens")
    for heading in ("tokenizer", "titles", "decode, ms", "text and spans, ms", "/ decode"):
        table.add_column(heading, justify="right")
    for name, tokenizer in track(tokenizers().items(), "spans", console=console, transient=True):
        for script, title in TITLES.items():
            ids = response(tokenizer, title)
            candidates = parse_candidates(DecodedTokens(tokenizer, ids).text.text)

            def find(tokenizer: Any = tokenizer, ids: Any = ids, found: Any = candidates) -> Any:
                return DecodedTokens(tokenizer, ids).spans(found)

            decode = partial(
                tokenizer.decode, ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            once, spans = cpu_seconds_in_turn([decode, find], ROUNDS)
            table.add_row(
                *(name, script, f"{once * 1e3:.2f}", f"{spans * 1e3:.2f}", f"{spans / once:.2f}")
            )
    console.print(table)
