"""Parsers that share nothing with the package's: they split the text at tags and at lines."""


def tagged(answer, truncated):
    pieces = answer.split("<candidate>")[1:]
    for number, piece in enumerate(pieces):
        text, closing, _ = piece.partition("</candidate>")
        if closing:
            yield text.strip(), True
        elif number == len(pieces) - 1:
            before, bracket, rest = text.rpartition("<")
            is_half = bracket and "</candidate>".startswith(bracket + rest)
            yield (before if is_half else text).strip(), False


def marker_of(line):
    """(indentation, number, punctuation) and the rest, if the line starts with such."""
    body = line.lstrip(" ")
    number = body[: len(body) - len(body.lstrip("0123456789"))]
    rest = body[len(number) :]
    indentation = len(line) - len(body)
    whole = indentation <= 3 and 1 <= len(number) <= 9 and rest[:1] in (".", ")")
    if not whole or not (len(rest) == 1 or rest[1].isspace()):
        return None
    return (indentation, rest[0]), number, rest[1:]


def numbered(answer, truncated):
    items, style, is_open = [], None, False
    for line in answer.split("\n"):
        found = marker_of(line)
        if found and (style is None or found[0] == style):
            if found[1] == str(len(items) + 1):
                style, is_open = found[0], True
                items.append([found[2]])
                continue
            if found[1] == "1":
                truncated = False
                break
        if not is_open:
            continue
        body = line.lstrip(" ")
        outside = body and not body[0].isspace() and len(line) - len(body) <= style[0]
        if outside and len(items[-1]) > 1 and not items[-1][-1].strip():
            is_open = False
        else:
            items[-1].append(line)
    for number, lines in enumerate(items, start=1):
        whole = number < len(items) or not is_open or not truncated
        yield "\n".join(lines).strip(), whole


def plain_parse(text, format, ignore_thoughts, truncated):
    answer = text
    if ignore_thoughts:
        answer, thought, _ = text.rpartition("</think>")[2].partition("<think>")
        truncated = truncated and not thought
    return list({"xml": tagged, "numbered": numbered}[format](answer, truncated))
