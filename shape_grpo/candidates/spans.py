"""Find the tokens that carry each candidate, from the token ids alone.

The text is never tokenised again, which could give other ids than the model sampled. Instead, each
id is mapped to the bytes that it adds to the text. The bytes of all ids must decode to exactly the
tokenizer's text; with a decoder that rewrites text across tokens they do not, and the spans are
found by decoding prefixes of the ids, which is slower.
"""

import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from functools import cached_property, partial
from itertools import accumulate

from shape_grpo.candidates.candidate import Candidate, ResponseText
from shape_grpo.candidates.vocabulary import Tokenizer, Vocabulary, decode, to_bytes, token_pieces

_CONTINUATION = bytes(range(0x80, 0xC0))  # all bytes of a character in UTF-8 but the first


def decode_response(tokenizer: Tokenizer, response_ids: Sequence[int]) -> str:
    """Return the text that candidates are parsed from and their offsets refer to.

    Special tokens are written out in it, but for those that begin, end or pad a sequence.

    Args:
        tokenizer: A Hugging Face tokenizer.
        response_ids: Token ids of the response.
    """
    return DecodedTokens(tokenizer, response_ids).text.text


def token_spans(
    tokenizer: Tokenizer, response_ids: Sequence[int], candidates: Sequence[Candidate]
) -> list[tuple[int, int]]:
    """Return for each candidate the (start, end) of its tokens: `DecodedTokens.spans`."""
    return DecodedTokens(tokenizer, response_ids).spans(candidates)


class DecodedTokens:
    """Token ids and their text.

    Args:
        tokenizer: A Hugging Face tokenizer of any kind. The bytes of its tokens are cached as long
            as the tokenizer lives.
        ids: Token ids, (T,).
    """

    def __init__(self, tokenizer: Tokenizer, ids: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        # Elements of arrays and tensors are not keys of a dictionary of ints.
        self.ids: list[int] = ids.tolist() if hasattr(ids, "tolist") else list(ids)
        self._plain = decode(tokenizer, self.ids)
        self._used = set(self.ids)
        self._vocabulary = Vocabulary.of(tokenizer, self._used)

    @cached_property
    def text(self) -> ResponseText:
        """The text, with its special tokens."""
        written_as = self._vocabulary.special
        if written_as.keys().isdisjoint(self._used):
            return ResponseText(self._plain)
        special = [n for n, token_id in enumerate(self.ids) if token_id in written_as]
        parts, places, at, length = [], [], 0, 0
        for number, offset in zip(special, self._offsets(special), strict=True):
            written = written_as[self.ids[number]]
            parts += [self._plain[at:offset], written]
            length += offset - at + len(written)
            places.append((length - len(written), length))
            at = offset
        return ResponseText("".join([*parts, self._plain[at:]]), places)

    def spans(self, candidates: Sequence[Candidate]) -> list[tuple[int, int]]:
        """Return for each candidate the (start, end) of its tokens, end exclusive.

        - A span reaches from the first to the last token that carries any byte of the candidate. So
          a token that the candidate shares with the text around it (`>The`) belongs to the
          candidate, and so does each token of a character that is split over tokens.
        - A token shared by two candidates belongs to the first. Spans never overlap; a candidate
          that lies within a token of an earlier one has an empty span.
        - Tokens that carry no text (special tokens) belong to a span only if they are inside it.
        - An empty candidate has an empty span (start == end).

        Args:
            candidates: Candidates in `text`, in order and not overlapping.

        Raises:
            ValueError: Candidates are out of order, or not in the text.
        """
        if not candidates:
            return []
        _check(self.text.text, candidates)
        offset = self.text.plain_offset
        places = [(offset(candidate.start), offset(candidate.end)) for candidate in candidates]
        pieces, image = self._pieces
        if image is None:
            touched = self._spans_by_prefixes(places)
        else:
            touched = self._spans_by_bytes(image, places)
        spans = []
        free = 0
        for first, end in touched:
            start = max(first, free)
            while start < end and not pieces[start]:
                start += 1
            free = max(start, end)
            spans.append((start, free))
        return spans

    @cached_property
    def _pieces(self) -> tuple[list[bytes], str | None]:
        """The bytes of each token, and the image of the plain text: `token_pieces`."""
        pieces, image = token_pieces(self._tokenizer, self._vocabulary, self.ids, self._plain)
        if image is None:
            warnings.warn(
                f"{type(self._tokenizer).__name__}: text is not the sum of its tokens under this "
                "decoder; candidates are located by decoding prefixes, about 200 times slower",
                stacklevel=3,
            )
        return pieces, image

    @cached_property
    def _piece_ends(self) -> list[int]:
        return list(accumulate(map(len, self._pieces[0])))

    def _offsets(self, numbers: Sequence[int]) -> list[int]:
        """Return the offset in the plain text at which each of these tokens stands."""
        _, image = self._pieces
        if image is None:
            return [len(decode(self._tokenizer, self.ids[:number])) for number in numbers]
        data = to_bytes(image)
        offsets, offset, at = [], 0, 0
        for number in numbers:
            begin = self._piece_ends[number]  # and its end: it adds nothing to the plain text
            offset += len(data[at:begin].translate(None, _CONTINUATION))
            at = begin
            # A special token within a character is written before it.
            offsets.append(offset - (begin < len(data) and data[begin] in _CONTINUATION))
        return offsets

    def _spans_by_bytes(
        self, image: str, places: Iterable[tuple[int, int]]
    ) -> list[tuple[int, int]]:
        spans = []
        character = byte = 0
        for start, stop in places:
            first_byte = byte + len(to_bytes(image[character:start]))
            byte = first_byte + len(to_bytes(image[start:stop]))
            character = stop
            first = bisect_right(self._piece_ends, first_byte)
            end = bisect_left(self._piece_ends, byte) + 1 if byte > first_byte else first
            spans.append((first, end))
        return spans

    def _spans_by_prefixes(self, places: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Bisect for the spans; correct if a longer prefix of ids never decodes to less text."""

        def length(count: int) -> int:
            return len(decode(self._tokenizer, self.ids[:count]))

        def covers(count: int, end: int) -> bool:
            return decode(self._tokenizer, self.ids[:count])[:end] == self._plain[:end]

        counts = range(len(self.ids) + 1)
        spans = []
        for start, stop in places:
            # From its first token on, a split character decodes as a replacement character.
            first = bisect_right(counts, start, key=length) - 1
            end = bisect_left(counts, True, key=partial(covers, end=stop))
            spans.append((first, end if stop > start else first))
        return spans


def _check(text: str, candidates: Iterable[Candidate]) -> None:
    previous_end = 0
    for number, candidate in enumerate(candidates):
        start, end = candidate.start, candidate.end
        if not previous_end <= start <= end <= len(text):
            raise ValueError(
                f"candidate {number} ({start}:{end}) begins before the end of the one before it "
                f"({previous_end}), or ends after the text ({len(text)}): give candidates of "
                "decode_response(tokenizer, response_ids), in order and without overlap"
            )
        previous_end = end
