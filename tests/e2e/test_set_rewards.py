"""Real runs with rewards of other kinds: a judge of lists, a function of subsets, vectors.

The advantages that reach the actor are those that plain loops find from the texts.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from recipe.shape_grpo.common.run_folder import read_metrics
from tests.e2e import set_rewards
from tests.e2e.plain_loops import check_advantages, read_updates

pytestmark = pytest.mark.e2e

FUNCTION = "reward.custom_reward_function"
FILE = Path(__file__).parent / "set_rewards.py"


@pytest.fixture
def run(spied):
    """run(function, *overrides): one step with a function of `set_rewards`; metrics, updates."""

    def run(function, *more):
        flags = [f"{FUNCTION}.path={FILE}", f"{FUNCTION}.name={function}", *more]
        # Equal candidates are asked about as well, so that the loops need no rules.
        flags.append("+algorithm.shape_grpo.duplicate=score")
        folder, notes = spied("shape_grpo", "trainer.total_training_steps=1", *flags)
        return read_metrics(folder)[1], read_updates(notes)

    return run


class Judge(BaseHTTPRequestHandler):
    requests: ClassVar[list[int]] = []

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.requests.append(len(asked["solutions"]))
        body = json.dumps(set_rewards.judged(asked["solutions"])).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def judge():
    """Address of a server that scores a list of candidates in one request."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Judge)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_judge_scores_the_list_in_one_request(run, judge):
    metrics, updates = run("ask_judge", f"+{FUNCTION}.reward_kwargs.url={judge}")
    sets = []

    def worth(record):
        rewards = set_rewards.judged(record["texts"])
        assert record["rewards"] == rewards
        sets.append(len(rewards))
        return range(len(rewards)), lambda chosen: max(rewards[k] for k in chosen)

    check_advantages(updates, worth)
    answered = [size for size in sets[: len(sets) // 2] if size]
    # The validation before the first step asks too.
    assert len(Judge.requests) >= len(answered)
    assert max(Judge.requests) == max(answered)
    assert metrics["shape_grpo/reward_errors"] == 0


def test_a_function_of_subsets(run):
    metrics, updates = run("utility", "+algorithm.shape_grpo.utility=oracle")

    def worth(record):
        texts = record["texts"]
        players = range(len(texts))
        return players, lambda chosen: set_rewards.utility([texts[k] for k in chosen])

    check_advantages(updates, worth)
    assert metrics["shape_grpo/reward_errors"] == 0


def test_vectors_count_by_the_best_of_each_component(run):
    metrics, updates = run("vowels", "+algorithm.shape_grpo.utility=best_per_component")

    def worth(record):
        vectors = [set_rewards.vowels(text) for text in record["texts"]]

        def value(chosen):
            return sum(map(max, zip(*(vectors[k] for k in chosen), strict=True)))

        return range(len(vectors)), value

    check_advantages(updates, worth)
    assert metrics["shape_grpo/reward_errors"] == 0
