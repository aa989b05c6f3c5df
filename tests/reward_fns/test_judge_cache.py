"""The cache of scores on disk: its keys, and several processes at once."""

import asyncio
import json
import sqlite3
import sys
from pathlib import Path

from tests.reward_fns.judge_server import SUMMARY, JudgeServer, always, ask, completion

ROOT = Path(__file__).parents[2]


def test_scores_are_kept_and_failures_are_not(tmp_path):
    cache = str(tmp_path / "new/judge.sqlite")
    answers = iter(["7", "4", "2"])

    async def reply(request):
        return completion(next(answers))

    scores = []
    for model in ("m", "m", "m", "other"):
        (result,), server = ask(reply, cache=cache, model=model)
        scores.append((result["score"] if isinstance(result, dict) else None, len(server.asked)))
    assert scores == [(None, 1), (4.0, 1), (4.0, 0), (2.0, 1)]


def test_the_whole_request_is_part_of_the_key(tmp_path):
    common = {"cache": str(tmp_path / "judge.sqlite"), "answer": "text"}
    for changed in ({}, {"answer": "choice"}, {"request": {"seed": 1}}):
        _, server = ask(always("4"), [SUMMARY, SUMMARY + " Yes."], **{**common, **changed})
        assert len(server.asked) == 2


def test_a_file_that_is_not_a_cache_is_named(tmp_path):
    path = tmp_path / "judge.sqlite"
    path.write_text("no database " * 100)
    (result,), server = ask(always("4"), cache=str(path))
    assert isinstance(result, sqlite3.DatabaseError) and "delete the file" in str(result)
    assert not server.asked


WORKER = """
import asyncio, json, sys
from reward_fns.aclsum import compute_score
url, cache, name = sys.argv[1:]
async def main():
    texts = [f"{name} {n}" for n in range(20)] + ["common to all"]
    calls = [
        compute_score("aclsum", text, "A parser.", {"aspect": "outcome"}, base_url=url, cache=cache)
        for text in texts
    ]
    return [result["score"] for result in await asyncio.gather(*calls)]
print(json.dumps(asyncio.run(main())))
"""


def test_processes_share_a_cache(tmp_path):
    """Three run at once, then the first again, which sends no request."""
    server = JudgeServer(always("3"))
    cache = str(tmp_path / "judge.sqlite")

    async def work(name):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", WORKER, server.url, cache, name),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        output, _ = await process.communicate()
        assert json.loads(output) == [3.0] * 21

    async def main():
        async with server.running():
            await asyncio.gather(work("a"), work("b"), work("c"))
            first = len(server.asked)
            await work("a")
            return first, len(server.asked)

    first, then = asyncio.run(main())
    assert 61 <= first <= 63 and then == first
    rows = sqlite3.connect(cache).execute("SELECT count(*), min(score), max(score) FROM scores")
    assert rows.fetchone() == (61, 3, 3)
