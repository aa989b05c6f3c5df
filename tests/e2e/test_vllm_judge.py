"""A real vLLM server as ACLSum's judge, behind verl's own router, asked by the reward manager.

The model is made here and knows nothing: whatever it writes is a score or is counted.
"""

import asyncio
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
import uvicorn
from hydra import compose, initialize_config_dir
from verl import DataProto
from verl.experimental.reward_loop.reward_manager import get_reward_manager_cls
from verl.experimental.reward_loop.router.naive_router import NaiveRouter
from verl.trainer.ppo.reward import get_custom_reward_fn
from verl.utils.net_utils import get_free_port

from recipe.shape_grpo.policies.tiny_qwen3 import PolicySettings, new_model, train_tokenizer
from recipe.shape_grpo.runs.launch import cpu_environment
from recipe.shape_grpo.tasks.aclsum import EXAMPLES
from recipe.shape_grpo.tasks.common import answer_text
from reward_fns.aclsum import judge_messages
from shape_grpo.advantage import CandidateRecord
from shape_grpo.verl.checks import RECORD_KEY

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
SUMMARIES = [text for example in EXAMPLES for text in example["summaries"]["outcome"]]
REFERENCE = "Their parser makes fewer errors on chat messages."


@pytest.fixture(scope="module")
def tokenizer():
    questions = [judge_messages(text, REFERENCE, "outcome", "text") for text in SUMMARIES]
    texts = [message["content"] for messages in questions for message in messages]
    return train_tokenizer([*texts, answer_text(SUMMARIES)], 600)


@pytest.fixture(scope="module")
def vllm_url(tokenizer, tmp_path_factory):
    """A vLLM server with a random model."""
    folder = tmp_path_factory.mktemp("judge")
    torch.manual_seed(0)
    model = new_model(tokenizer, PolicySettings(width=64))
    model.config.max_position_embeddings = 2048
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    port, _ = get_free_port("127.0.0.1")
    command = [
        *(sys.executable, Path(__file__).parent / "vllm_server.py"),
        *("--model", folder, "--host", "127.0.0.1", "--port", str(port)),
        *("--dtype", "float32", "--enforce-eager", "--max-num-seqs", "8"),
    ]
    url = f"http://127.0.0.1:{port}"
    environment = cpu_environment(folder / "metrics.jsonl")
    environment["PYTHONPATH"] = str(ROOT)
    with (folder / "server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            while not is_up(url):
                assert server.poll() is None, (folder / "server.log").read_text()[-5000:]
                time.sleep(1)
            yield url
        finally:
            server.terminate()
            server.wait()


def is_up(url):
    try:
        return urllib.request.urlopen(f"{url}/health").status == 200
    except urllib.error.URLError:
        return False


@pytest.fixture(scope="module")
def router(vllm_url):
    """Address of verl's router before that server, as verl passes it to reward functions."""
    port, _ = get_free_port("127.0.0.1")
    application = NaiveRouter(worker_urls=[vllm_url]).app
    server = uvicorn.Server(uvicorn.Config(application, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.1)
    yield f"127.0.0.1:{port}"
    server.should_exit = True
    thread.join()


@pytest.fixture
def judged(router, tokenizer, monkeypatch, tmp_path):
    """judged(**reward_kwargs): the record of a response of all summaries, as the run would see it:
    the task's config, verl's loader, our reward manager."""

    def run(**kwargs):
        monkeypatch.chdir(ROOT)
        where = "reward.custom_reward_function.reward_kwargs"
        kwargs = {"cache": tmp_path / "cache.sqlite", **kwargs}
        overrides = [f"++{where}.{name}={value}" for name, value in kwargs.items()]
        folder = str(ROOT / "recipe/shape_grpo/config")
        with initialize_config_dir(folder, version_base=None):
            more = [f"algorithm.shape_grpo.max_candidates={len(SUMMARIES)}"]
            config = compose("shape_grpo_trainer", ["+task=aclsum", *overrides, *more])
        ids = tokenizer(answer_text(SUMMARIES) + tokenizer.eos_token)["input_ids"]
        row = {
            "data_source": "aclsum",
            "reward_model": {"ground_truth": REFERENCE},
            "extra_info": {"aspect": "outcome"},
        }
        data = DataProto.from_dict(
            tensors={
                "prompts": torch.zeros(1, 1, dtype=torch.long),
                "responses": torch.tensor([ids]),
                "attention_mask": torch.ones(1, len(ids) + 1, dtype=torch.long),
            },
            non_tensors={key: np.array([value], dtype=object) for key, value in row.items()},
        )

        async def main():
            manager = get_reward_manager_cls("multi_candidate")(
                config,
                tokenizer,
                get_custom_reward_fn(config),
                reward_router_address=router,
                reward_model_tokenizer=tokenizer,
            )
            manager.loop = asyncio.get_running_loop()
            return (await manager.run_single(data))["reward_extra_info"]

        return CandidateRecord.from_json(asyncio.run(main())[RECORD_KEY])

    return run


def test_a_judge_held_to_the_digits_always_gives_a_score(judged):
    record = judged(answer="choice", request="{temperature:1.0,seed:0}")
    assert record.error is None and len(record.rewards) == len(SUMMARIES)
    assert set(record.rewards) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    # From the cache: the server could give other scores, if its seed were another.
    assert judged(answer="choice", request="{temperature:1.0,seed:0}").rewards == record.rewards


def test_a_judge_held_to_the_schema_gives_scores_or_is_counted(judged):
    # The schema allows white space anywhere, and a random model takes its time with it.
    request = "{temperature:1.0,seed:0,max_completion_tokens:512}"
    record = judged(answer="json_schema", request=request, retries=0)
    assert len(record.rewards) == len(SUMMARIES)
    assert set(record.known_rewards) <= {1.0, 2.0, 3.0, 4.0, 5.0}
    assert record.known_rewards
    assert record.error is None or "finish_reason='length'" in record.error


def test_a_judge_that_babbles_is_counted(judged):
    record = judged(answer="text", retries=0)
    assert record.rewards == [None] * len(SUMMARIES) and record.num_errors == len(SUMMARIES)
    assert "ValueError: the judge" in record.error


def test_rouge_instead_of_a_judge_that_babbles_is_counted(judged):
    record = judged(answer="text", retries=0, on_failure="rouge")
    assert record.error is None and record.problem_counts["fallback"] == len(SUMMARIES)
    assert all(1 <= reward <= 5 for reward in record.rewards)
