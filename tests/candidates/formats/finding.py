"""What the tests of all formats share."""

from hypothesis import settings

steady = settings(deadline=None, derandomize=True)


def found(format, text, cut=False):
    """The candidates and whether they are closed."""
    return [(format.read(text[s:e]), closed) for s, e, closed in format.find(text, cut=cut)]


def texts(format, text, cut=False):
    """Texts of the candidates; one that is not closed carries a trailing ellipsis."""
    return [text + ("" if closed else "…") for text, closed in found(format, text, cut)]


def check_prefixes(format, text):
    """Each prefix of an answer holds the same whole candidates, and at most one unclosed."""
    whole = texts(format, text)
    for end in range(len(text)):
        got = found(format, text[:end], cut=True)
        closed = [candidate for candidate, is_closed in got if is_closed]
        assert closed == whole[: len(closed)]
        rest = got[len(closed) :]
        assert len(rest) <= 1
        for half, is_closed in rest:
            assert not is_closed
            assert whole[len(closed)].startswith(half)
