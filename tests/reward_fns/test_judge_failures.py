"""Errors of a judge's server under the status 200, and the causes of refusals."""

import asyncio
import html
import json

import openai
import pytest
from aiohttp import web

from reward_fns.aclsum import compute_score
from reward_fns.aclsum_question import MOST_BYTES, judge_messages
from reward_fns.aclsum_rouge import compute_score as rouge
from tests.reward_fns.judge_server import (
    REFERENCE,
    SUMMARY,
    JudgeServer,
    always,
    ask,
    completion,
    user_text,
)

FAST = {"retry-after-ms": "1"}
GOOD = {"score": 4.0, "fallback": 0.0}
LOWEST = {"score": 1.0, "fallback": 0.0}


def body(**fields):
    return {"id": "1", "object": "chat.completion", "created": 0, "model": "m", **fields}


def choice(**fields):
    return body(choices=[{"index": 0, **fields}])


def message(content, **fields):
    return choice(finish_reason="stop", message={"role": "assistant", "content": content, **fields})


@pytest.mark.parametrize(
    "reason",
    ["stop", "eos", "eos_token", "end", "end_turn", "stop_sequence", "tool_calls", "", None, 0],
)
def test_any_reason_but_length_and_a_filter_is_an_end(reason):
    assert ask(always("4", finish_reason=reason))[0] == [GOOD]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (choice(message={"content": "4"}), "no finish_reason"),
        ({"choices": [{"message": {"content": "4"}}]}, "nothing but the message"),
        ({**message("4"), "error": None}, "an error that is null"),
        (message("4", refusal=None, tool_calls=None), "fields of null"),
        (message("4", refusal=""), "an empty refusal"),
        (message([{"type": "text", "text": "4"}]), "a list of parts"),
        (message([{"type": "text", "text": '{"score"'}, {"type": "text", "text": ": 4}"}]), "two"),
        (message([{"type": "thinking", "thinking": "a 5?"}, {"type": "text", "text": "4"}]), "..."),
        (message(["4"]), "a list of texts"),
        (message("4", reasoning_content="a 5?"), "a thought beside it"),
        (choice(finish_reason="stop", logprobs=None, message={"content": "4"}), "no logprobs"),
    ],
)
def test_a_score_is_found_in_every_shape_of_an_answer(answer, reason):
    async def reply(request):
        return web.json_response(answer)

    assert ask(reply)[0] == [GOOD], reason


NO_ANSWERS = [
    ({"error": "overloaded"}, "an error as text"),
    ({"error": {"message": "Rate limit exceeded", "code": 429}}, "a number as code"),
    ({"error": {"message": "slow down", "code": "429"}}, "the number as text"),
    ({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, "a word as code"),
    ({"error": {"message": "slow down", "type": "rate_limit_error"}}, "a word as type"),
    ({"error": {"message": "invalid request rate: rate limit"}}, "words of both kinds"),
    ({"error": {"message": "down", "code": 503}}, "the code of a failing server"),
    ({"error": {"message": "down", "code": None, "status": "502"}}, "as status"),
    ({"error": {"message": "no such key", "code": 401}}, "the code of another mistake"),
    ({"error": {"message": "Request too large: rate limit of tokens"}}, "a limit, not a length"),
    ({"error": True}, "no word at all"),
    ({"error": {}, "choices": []}, "an empty error"),
    ({"error": "later", **message("4")}, "an error beside an answer"),
    ({"message": "rate limited"}, "no key of the protocol"),
    ({}, "an empty object"),
    (body(), "no choices"),
    (body(choices=None), "choices of null"),
    (body(choices=[]), "empty choices"),
    (body(choices={}), "choices that are no list"),
    (body(choices=[None]), "a choice of null"),
    (body(choices=["4"]), "a choice of text"),
    (choice(finish_reason="stop"), "no message"),
    (choice(finish_reason="stop", message=None), "a message of null"),
    (choice(finish_reason="stop", message="4"), "a message of text"),
    (choice(finish_reason="error", message={"content": ""}, error={"code": 502}), "inside"),
    ([4], "a list"),
    ("4", "a text"),
    (None, "null"),
]
NO_JSON = [("", "nothing"), ('{"choices": [', "half of it"), ("<html>wait</html>", "a web page")]
TEXTS = [(json.dumps(value), reason) for value, reason in NO_ANSWERS] + NO_JSON


@pytest.mark.parametrize(("text", "reason"), TEXTS)
def test_no_answer_under_the_status_200_is_retried(text, reason):
    async def reply(request):
        attempts.append(request)
        if len(attempts) < 3:
            return web.Response(text=text, content_type="application/json", headers=FAST)
        return completion("4")

    attempts = []
    assert ask(reply, retries=2)[0] == [GOOD], reason
    assert len(attempts) == 3


@pytest.mark.parametrize(("text", "reason"), TEXTS)
def test_no_answer_in_any_attempt_fails_in_words(text, reason):
    async def reply(request):
        return web.Response(text=text, content_type="text/html", headers=FAST)

    (result,), server = ask(reply, retries=1)
    assert isinstance(result, ValueError), reason
    assert text[:100] in str(result) and "under the status 200, also after retries=1" in str(result)
    assert "max_completion_tokens" not in str(result)
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (message(None), "has no text"),
        (message(None, tool_calls=[{"id": "1"}]), "has no text"),
        (message(4), "has no text"),
        (message({"score": 4}), "has no text"),
        (message([]), "the judge answered ''"),
        (message([{"type": "thinking", "thinking": "4"}]), "the judge answered ''"),
    ],
)
def test_only_a_cut_answer_speaks_of_the_length(answer, words):
    async def reply(request):
        return web.json_response(answer)

    (result,), server = ask(reply, retries=2)
    assert isinstance(result, ValueError) and words in str(result)
    assert "max_completion_tokens" not in str(result)
    assert len(server.asked) == 1
    (result,), _ = ask(always("4", finish_reason="length"))
    assert isinstance(result, ValueError)
    assert "write a larger reward_kwargs.request.max_completion_tokens" in str(result)


def test_an_error_in_the_list_of_models_is_retried():
    class Busy(JudgeServer):
        async def list_models(self, request):
            if self.models:
                self.models.pop()
                return web.json_response({"error": "busy"}, headers=FAST)
            return web.json_response({"object": "list", "data": [{"id": "m", "object": "model"}]})

    server = Busy(always("4"))

    async def main():
        async with server.running():
            return await compute_score(
                "aclsum", SUMMARY, REFERENCE, {"aspect": "outcome"}, base_url=server.url, retries=1
            )

    assert asyncio.run(main()) == GOOD


# --- causes of refusals ---


def http(status, text="", **fields):
    return lambda: web.json_response({"error": {"message": text, **fields}}, status=status)


REFUSALS = [
    (http(400, "maximum context length is 4096 tokens"), "too long"),
    (http(400, "filtered", code="content_filter"), "a filter of the question"),
    (http(400), "no reason given"),
    (http(403, "flagged by moderation"), "a moderator"),
    (http(413), "too large"),
    (http(422, "inputs must have less than 4096 tokens"), "too long, elsewhere"),
    (http(200, "too long", code=400), "a number in a body"),
    (http(200, "too long", code="400"), "the number as text"),
    (http(200, "too long", code="context_length_exceeded"), "a word in a body"),
    (http(200, "no", type="invalid_request_error"), "a type in a body"),
    (http(200, "no", code=None, type="BadRequestError"), "vLLM's type"),
    (lambda: web.json_response({"error": "exceeds the context window"}), "words in a body"),
    (lambda: web.json_response({"error": "Input is too long."}), "other words in a body"),
    (lambda: completion("4", finish_reason="content_filter"), "a filter of the answer"),
    (lambda: completion(None, finish_reason="content_filter"), "without a text"),
    (lambda: web.json_response(choice(finish_reason="content_filter")), "without a message"),
    (lambda: completion(None, refusal="I cannot grade this."), "the model itself"),
    (lambda: web.json_response(message([{"type": "refusal", "refusal": "No."}])), "in a part"),
]


@pytest.mark.parametrize(("refusal", "reason"), REFUSALS)
@pytest.mark.parametrize("on_failure", ["raise", "rouge"])
def test_a_text_that_the_judge_refuses_earns_the_lowest_score(on_failure, refusal, reason):
    async def reply(request):
        if "bad" in user_text(await request.json()):
            return refusal()
        return completion("4")

    # The best of texts for ROUGE.
    texts = ["good", f"{REFERENCE} bad"]
    assert ask(reply, texts, on_failure=on_failure)[0] == [GOOD, LOWEST], reason


@pytest.mark.parametrize(("refusal", "reason"), REFUSALS)
def test_a_judge_that_refuses_every_text_is_a_failure(refusal, reason):
    async def reply(request):
        return refusal()

    (result,), _ = ask(reply)
    assert isinstance(result, ValueError | openai.OpenAIError), reason
    (result,), _ = ask(reply, on_failure="rouge")
    assert result == {"score": pytest.approx(1 + 4 * rouge("", SUMMARY, REFERENCE)), "fallback": 1}


@pytest.mark.parametrize("status", [401, 404, 408, 409, 429, 500, 503])
def test_a_judge_that_fails_on_one_text_is_a_failure(status):
    async def reply(request):
        if "bad" in user_text(await request.json()):
            return web.Response(status=status, headers=FAST)
        return completion("4")

    good, bad = ask(reply, ["good", "bad"], retries=1)[0]
    assert good == GOOD and isinstance(bad, openai.APIStatusError)


@pytest.mark.parametrize("then", [http(500), http(429), http(200, "busy", code=429)])
@pytest.mark.parametrize("on_failure", ["raise", "rouge"])
def test_rouge_does_not_pay_for_a_refusal_of_unknown_cause(on_failure, then):
    async def reply(request):
        return http(400)() if SUMMARY in user_text(await request.json()) else then()

    (result,), _ = ask(reply, on_failure=on_failure)
    assert isinstance(result, ValueError)
    assert "refused this summary" in str(result) and "failed with an empty one" in str(result)


def test_a_judge_that_answers_about_an_empty_text_in_words_has_not_refused_it():
    async def reply(request):
        return http(400)() if SUMMARY in user_text(await request.json()) else completion("Empty?")

    assert ask(reply)[0] == [LOWEST]


def test_an_answer_in_another_form_is_no_refusal():
    async def reply(request):
        bad = "bad" in user_text(await request.json())
        return completion("I would rather not." if bad else "4")

    good, bad = ask(reply, ["good", "bad"])[0]
    assert good == GOOD and isinstance(bad, ValueError)


# --- the length of a text ---


@pytest.mark.parametrize("text", ["[" * 955, "&" * 10_000, "\U0001f600" * 3000, "ab, " * 10_000])
def test_a_long_text_is_cut_where_everybody_sees_it(text):
    """In bytes, because no tokenizer makes more tokens than bytes."""
    (result,), server = ask(always("2"), [text])
    assert result["score"] == 2.0
    inside = user_text(server.asked[0]).split("\n")[2]
    assert inside.startswith("<summary>") and inside.endswith(" [the rest was cut off]</summary>")
    data = inside.removeprefix("<summary>").removesuffix(" [the rest was cut off]</summary>")
    assert MOST_BYTES - 6 < len(data.encode()) <= MOST_BYTES
    # No escape is cut in two, and no candidate can claim to be cut.
    assert text.startswith(html.unescape(data).rstrip())
    _, server = ask(always("2"), ["a [the rest was cut off]"])
    assert "[the rest" not in user_text(server.asked[0])


def test_a_text_of_the_most_bytes_is_whole():
    text = "[" * (MOST_BYTES // 5)
    assert "cut off" not in judge_messages(text, REFERENCE, "approach", "text")[1]["content"]


@pytest.mark.parametrize("text", ["a\ud83d b", "\udcff", "\0\x1b"])
def test_a_text_that_utf_8_does_not_know_is_sent(text):
    assert ask(always("2"), [text])[0] == [{"score": 2.0, "fallback": 0.0}]
