"""The judge's client against a misbehaving server, with real requests."""

import asyncio

import openai
import pytest
from aiohttp import web
from omegaconf import OmegaConf

from reward_fns.aclsum import compute_score
from reward_fns.judge import parse_score
from tests.reward_fns.judge_server import ROW, SUMMARY, always, as_json, ask, completion


@pytest.mark.parametrize("score", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("written", [str, as_json, "\n {} \n".format, '{{ "score":{}\n}}'.format])
def test_a_score_is_read(written, score):
    assert parse_score(written(score)) == score


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "empty"),
        (" \n", "white space"),
        ("5/5", "two numbers in one"),
        ("Score: 7", "a number that is no score, with text"),
        ("Score: 4", "text around the score"),
        ("4 or 5", "two scores"),
        ("4\n5", "two lines"),
        ("45", "two digits"),
        ("0", "below the scale"),
        ("6", "above the scale"),
        ("-3", "negative"),
        ("4.5", "no whole number"),
        ("4.0", "no integer"),
        ("4.", "a full stop"),
        ("**4**", "markdown"),
        ("four", "a word"),
        ("٤", "a digit of another script"),
        ("\uff14", "a full-width digit"),
        ('Here: {"score": 4}', "JSON with text before it"),
        ('{"score": 4} since it is good', "JSON with text after it"),
        ('```json\n{"score": 4}\n```', "JSON in a code fence"),
        ('{"score": 4', "half of the JSON"),
        ('{"score": 7}', "JSON, but no score"),
        ('{"score": "4"}', "a string"),
        ('{"score": 4, "score": 5}', "two scores under one key"),
        ('{"score": 4, "reason": "good"}', "another key"),
        ('{"Score": 4}', "a key that was not asked for"),
        ("[4]", "a list"),
        ("<think>It is a 5.</think>4", "a thought, which may hold any number"),
    ],
)
def test_anything_but_one_score_is_an_error(answer, reason):
    (result,), server = ask(always(answer))
    assert isinstance(result, ValueError) and "the judge answered" in str(result), reason
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("response", "reason"),
    [
        (lambda: completion(None), "no content"),
        (lambda: completion("4", finish_reason="length"), "cut off: it may have become 45"),
        (lambda: completion("4", finish_reason="content_filter"), "stopped by a filter"),
        (lambda: web.json_response({"choices": []}), "no choice"),
        (lambda: web.json_response({"error": "overloaded"}), "an error under the status 200"),
        (lambda: web.json_response([4]), "a list"),
        (lambda: web.Response(text="4"), "plain text"),
        (lambda: web.Response(text=""), "nothing"),
        (
            lambda: web.Response(text='{"choices": [', content_type="application/json"),
            "half of the JSON",
        ),
        (lambda: web.Response(text="<html>sign in</html>", content_type="text/html"), "a web page"),
    ],
)
def test_an_incomplete_answer_is_an_error(response, reason):
    async def reply(request):
        return response()

    (result,), _ = ask(reply)
    assert isinstance(result, ValueError), reason


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(status):
    async def reply(request):
        if len(server_calls) < 2:
            server_calls.append(request)
            return web.Response(status=status, headers={"retry-after-ms": "1"})
        return completion("3")

    server_calls = []
    (result,), server = ask(reply, retries=2)
    assert result == {"score": 3.0, "fallback": 0.0}
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("status", "attempts", "error"),
    [
        (500, 3, openai.InternalServerError),
        (429, 3, openai.RateLimitError),
        (401, 1, openai.AuthenticationError),
        # Twice: the second question, of an empty summary, tells whose fault it is.
        (400, 2, openai.BadRequestError),
    ],
)
def test_a_server_that_never_recovers_fails_after_the_retries(status, attempts, error):
    async def reply(request):
        return web.Response(status=status, headers={"retry-after-ms": "1"})

    (result,), server = ask(reply, retries=2)
    assert isinstance(result, error)
    assert len(server.asked) == attempts


async def hang(request):
    await asyncio.Event().wait()


async def half_a_body(request):
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"choices": [{"message": {"content": "5"')
    await hang(request)


async def hang_up(request):
    request.transport.close()
    await hang(request)


@pytest.mark.parametrize(
    ("reply", "error", "timeout"),
    [
        # Long enough for a busy machine to accept the question.
        (hang, openai.APITimeoutError, 2.0),
        (half_a_body, openai.APITimeoutError, 2.0),
        (hang_up, openai.APIConnectionError, 300.0),
    ],
)
def test_a_server_that_stops_talking_is_asked_again_and_then_fails(reply, error, timeout):
    (result,), server = ask(reply, retries=1, timeout=timeout)
    assert type(result) is error
    assert len(server.asked) == 2


def test_no_more_requests_at_a_time_than_the_limit():
    limit, running, most = 3, 0, 0
    all_in = asyncio.Barrier(limit)

    async def reply(request):
        nonlocal running, most
        running += 1
        most = max(most, running)
        # Waits until a client has `limit` requests open, then long enough for it to open more.
        await asyncio.wait_for(all_in.wait(), timeout=30)
        await asyncio.sleep(0.2)
        running -= 1
        return completion("4")

    results, _ = ask(reply, [f"summary {n}" for n in range(3 * limit)], concurrency=limit)
    assert [result["score"] for result in results] == [4.0] * 3 * limit
    assert most == limit


def test_every_loop_has_its_own_judge():
    for score in (2, 5):
        (result,), _ = ask(always(str(score)), concurrency=1)
        assert result["score"] == score


@pytest.mark.parametrize(
    ("answer", "fields"),
    [
        ("choice", {"structured_outputs": {"choice": ["1", "2", "3", "4", "5"]}}),
        ("text", {}),
    ],
)
def test_how_the_answer_is_asked_for(answer, fields):
    _, server = ask(always("4"), answer=answer)
    body = server.asked[0]
    assert body.pop("messages")[0]["content"].endswith("one digit from 1 to 5 and nothing else.")
    assert body == {"model": "m", "temperature": 0.0, "max_completion_tokens": 32, **fields}


def test_the_schema_admits_scores_and_nothing_else():
    _, server = ask(always("4"))
    form = server.asked[0]["response_format"]
    assert (form["type"], form["json_schema"]["strict"]) == ("json_schema", True)
    assert form["json_schema"]["schema"] == {
        "type": "object",
        "properties": {"score": {"type": "integer", "enum": [1, 2, 3, 4, 5]}},
        "required": ["score"],
        "additionalProperties": False,
    }


def test_further_fields_of_the_request_come_from_the_configuration():
    request = OmegaConf.create({"chat_template_kwargs": {"thinking": False}, "temperature": None})
    _, server = ask(always("4"), request=request, answer="text", model="judge-1")
    body = server.asked[0]
    assert body["chat_template_kwargs"] == {"thinking": False}
    assert "temperature" not in body
    assert (body["model"], body["max_completion_tokens"]) == ("judge-1", 32)


def test_the_key_comes_from_the_named_variable_and_from_no_other(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "for somebody else")
    monkeypatch.setenv("JUDGE_KEY", "secret")
    _, server = ask(always("4"))
    assert server.headers[0]["Authorization"] == "Bearer none"
    _, server = ask(always("4"), api_key_env="JUDGE_KEY")
    assert server.headers[0]["Authorization"] == "Bearer secret"


def test_a_server_of_several_models_is_not_guessed_at():
    (result,), _ = ask(always("4"), models=["a", "b"])
    assert isinstance(result, ValueError)
    assert "serves ['a', 'b']: name the judge in reward_kwargs.model" in str(result)
    (result,), server = ask(always("4"), models=["a", "b"], model="b")
    assert (result["score"], server.asked[0]["model"]) == (4.0, "b")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "no judge: write .*base_url=.*reward.reward_model.enable=true.*aclsum_rouge"),
        ({"base_ulr": "http://x"}, "reward_kwargs.base_ulr: unknown; did you mean base_url?"),
        ({"seed": 1}, "reward_kwargs.seed: unknown; did you mean base_url, model, api_key_env"),
        ({"base_url": "localhost:8000"}, "base_url='localhost:8000': write an address such as"),
        ({"answer": "json"}, "reward_kwargs.answer='json': write json_schema or choice or text"),
        ({"request": "seed=1"}, "reward_kwargs.request='seed=1': write fields and values"),
        ({"concurrency": 0}, "reward_kwargs.concurrency=0: write 1 or more"),
        ({"timeout": 0}, "reward_kwargs.timeout=0: write more than 0 seconds"),
        ({"retries": -1}, "reward_kwargs.retries=-1: write 0 or more"),
        ({"on_failure": "zero"}, "reward_kwargs.on_failure='zero': write raise or rouge"),
        ({"api_key_env": "NO_SUCH_KEY"}, "api_key_env=NO_SUCH_KEY: no such environment variable"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        asyncio.run(compute_score(solution_str=SUMMARY, **ROW, **settings))
