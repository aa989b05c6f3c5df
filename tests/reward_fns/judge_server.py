"""A server with OpenAI's protocol that misbehaves as a test requires, and clients for it."""

import asyncio
import html
import json
import re
from contextlib import asynccontextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

from aiohttp import web

REFERENCE = "They propose a parser which learns from chat messages."
SUMMARY = "They train a parser on chat messages."
ROW = {"data_source": "aclsum", "ground_truth": REFERENCE, "extra_info": {"aspect": "approach"}}
FILE = Path(__file__).parents[2] / "reward_fns/aclsum.py"


def completion(content, finish_reason="stop", **message):
    """Return a complete answer of the server."""
    choice = {
        "index": 0,
        "finish_reason": finish_reason,
        "message": {"role": "assistant", "content": content, **message},
    }
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
    return web.json_response(body)


class JudgeServer:
    """Server that answers with `reply(request)` and keeps the requests.

    Attributes:
        reply: A response, or an async function of the request that returns one.
        asked: Bodies of all requests, oldest first.
        headers: Headers of all requests.
        models: Names of the models that it lists.
        url: The server's address, up to "/v1".
    """

    def __init__(self, reply):
        self.reply = reply
        self.asked = []
        self.headers = []
        self.models = ["m"]
        self.url = ""

    async def answer(self, request):
        self.asked.append(await request.json())
        self.headers.append(request.headers)
        return await self.reply(request)

    async def list_models(self, request):
        data = [{"id": name, "object": "model"} for name in self.models]
        return web.json_response({"object": "list", "data": data})

    @asynccontextmanager
    async def running(self):
        application = web.Application()
        application.router.add_post("/v1/chat/completions", self.answer)
        application.router.add_get("/v1/models", self.list_models)
        runner = web.AppRunner(application, shutdown_timeout=0.01)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        try:
            yield self
        finally:
            await runner.cleanup()


def always(content, **fields):
    """Return a reply that is always the same."""

    async def reply(request):
        return completion(content, **fields)

    return reply


def load_as_verl_does(name="compute_score"):
    """Load a reward function from its file, under a name that no import finds."""
    spec = spec_from_file_location("custom_module", FILE)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


def ask(reply, summaries=(SUMMARY,), models=("m",), **settings):
    """Score the summaries concurrently; return results or exceptions, and the server."""
    server = JudgeServer(reply)
    server.models = list(models)
    compute_score = load_as_verl_does()

    async def main():
        async with server.running():
            arguments = {"base_url": server.url, "retries": 0, **settings}
            calls = [compute_score(solution_str=text, **ROW, **arguments) for text in summaries]
            return await asyncio.gather(*calls, return_exceptions=True)

    return asyncio.run(main()), server


def ask_about_set(reply, summaries, **settings):
    """Score the summaries in one call; return its results or its exception, and the server."""
    server = JudgeServer(reply)
    compute_scores = load_as_verl_does("compute_scores")
    indices = {"candidate_indices": list(range(len(summaries))), "num_candidates": len(summaries)}
    row = {**ROW, "extra_info": {**ROW["extra_info"], **indices}}

    async def main():
        async with server.running():
            arguments = {"base_url": server.url, "retries": 0, **settings}
            call = compute_scores(solution_strs=list(summaries), **row, **arguments)
            return (await asyncio.gather(call, return_exceptions=True))[0]

    return asyncio.run(main()), server


def user_text(body):
    """Return the question in a request, without the instructions."""
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    return body["messages"][1]["content"]


def as_json(score):
    return json.dumps({"score": score})


def shown_texts(body):
    """Return the summaries in a request about several, as the judge reads them, in its order."""
    lines = [line for line in user_text(body).split("\n") if line.startswith("<summary_")]
    found = [re.fullmatch(r"<summary_(\d+)>([^<>]*)</summary_(\d+)>", line) for line in lines]
    assert [(m[1], m[3]) for m in found] == [(str(n), str(n)) for n in range(1, len(lines) + 1)]
    return [html.unescape(m[2]) for m in found]
