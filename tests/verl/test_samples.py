"""Samples while it trains: what is written of a step, by verl's own trainers."""

import logging

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from shape_grpo.advantage import CandidateRecord
from tests.verl.fake_queue import scored

GOOD, POOR = scored(3.0, 1.0), scored(1.0, None)
"""3 and 1: shares 2.5 and 0.5 of 3, so weights of 5/3 and 1/3. Of scores 3 and 1, A is +-0.7071."""
STEP = [GOOD, POOR] * 4


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", str(tmp_path / "run/metrics.jsonl"))
    return tmp_path / "run/metrics.samples.md"


class Tokens:
    """A tokenizer of these tokens; the ids are 0, 1, ..."""

    def __init__(self, *texts):
        self.texts = texts

    def __len__(self):
        return len(self.texts)

    def decode(self, ids, **_):
        return "".join(self.texts[token_id] for token_id in ids)

    def convert_ids_to_tokens(self, token_id):
        return self.texts[token_id]


@pytest.fixture
def make(make_trainer):
    def with_tokenizer(**options):
        trainer = make_trainer(**{"log_samples_every": 10, **options})
        trainer.tokenizer = Tokens("word0", "word1", " word2", " word3", " word4")
        return trainer

    return with_tokenizer


def test_a_page_shows_rewards_weights_and_the_advantages_that_were_trained_on(make, run_step, file):
    run_step(make(), STEP)
    page = file.read_text()
    assert page.startswith("## Step 1\n\n```\nword1\n```\n")
    # Responses are the ids 1 2 3 4, whose first two are the candidates.
    assert page.count("```\nword1 word2 word3 word4\n```") == 2
    assert "### Set reward 3, other tokens +0.707" in page
    assert "| word1 | 3 | 1.67 | +1.179 |\n| word2 | 1 | 0.333 | +0.236 |" in page
    assert "### Set reward 1, other tokens -0.707" in page
    assert "| word1 | 1 | 1 | -0.707 |\n| word2 | failed | - | - |" in page
    # From the best to the worst, and of one prompt alone.
    assert page.index("Set reward 3") < page.index("Set reward 1")


def test_a_candidate_is_shown_as_the_reward_function_got_it(make, run_step, file):
    """Not as its tokens, of which the first ends the tag as well."""
    trainer = make()
    trainer.tokenizer = Tokens("word0", "<candidate", ">The", " Hobbit", "</candidate>")
    records = [CandidateRecord([reward], [1], [3], texts=["The Hobbit"]) for reward in (3.0, 1.0)]
    run_step(trainer, records * 4)
    page = file.read_text()
    assert "| The Hobbit | 3 | 1 | +0.707 |" in page and "| The Hobbit | 1 | 1 | -0.707 |" in page
    assert page.count("```\n<candidate>The Hobbit</candidate>\n```") == 2


def test_it_is_one_read_of_the_queue(make, run_step, queue):
    run_step(make(), STEP)
    keys = [key for key, name in queue.reads if name == "extra_fields"]
    assert len(keys) == len(set(keys)) == len(STEP)
    assert [key for key, name in queue.reads if name == "responses"] == keys
    queue.reads.clear()
    trainer = make()
    trainer.global_steps = 2
    run_step(trainer, STEP)
    assert not any(name in ("responses", "prompts") for _, name in queue.reads)


@pytest.mark.parametrize(
    ("every", "written"),
    [(10, [1, 11, 21]), (1, [*range(1, 23)]), (0, []), (3, [*range(1, 23, 3)])],
)
def test_every_so_many_steps_the_first_update_is_looked_at(make, run_step, file, every, written):
    trainer = make(log_samples_every=every)
    for step in range(1, 23):
        trainer.global_steps = step
        run_step(trainer, STEP, updates=2)
    lines = file.read_text().splitlines() if written else []
    assert [line for line in lines if line.startswith("## ")] == [f"## Step {n}" for n in written]
    assert file.exists() == bool(written)


def test_of_a_large_group_the_best_the_worst_and_some_between(make):
    from shape_grpo.verl.samples import choose_samples

    records = {f"b_{n}_0": scored(float(n)) for n in range(9)} | {"c_0_0": scored(99.0)}
    options = make(log_samples=3).shape_grpo_config
    assert choose_samples(records, options) == ["b_8_0", "b_4_0", "b_0_0"]
    assert choose_samples({"b_0_0": CandidateRecord()}, options) == ["b_0_0"]
    options = make(log_samples=1).shape_grpo_config
    assert choose_samples(records, options) == ["b_8_0"]


def test_a_baseline_shows_rewards_and_no_credit(make, run_step, file):
    trainer = make()
    trainer.config.algorithm.adv_estimator = "grpo"
    run_step(trainer, STEP)
    assert "### Set reward 3\n" in file.read_text()
    assert "| word1 | 3 | - | - |" in file.read_text()


def test_vectors_and_text_that_looks_like_markdown(make, run_step, file):
    trainer = make(utility="coverage")
    trainer.tokenizer = Tokens("word0", "````\n", "a", " | b", " 4")
    texts = ["````\na | b 1", "c"]
    vectors = [[1, 0, 1], [0, 0, 1]], [[0, 0, 0], [1, 0, 0]]
    run_step(trainer, [scored(*of_response, texts=texts) for of_response in vectors] * 4)
    page = file.read_text()
    assert "| ```` a \\| b 1 | 2 of 3 |" in page
    assert "`````\n````\na | b 4\n`````" in page


def test_a_full_disk_is_said_once_and_the_training_goes_on(make, run_step, file, caplog):
    file.parent.mkdir()
    file.symlink_to("/dev/full")
    trainer = make(log_samples_every=1)
    with caplog.at_level(logging.WARNING, "verl"):
        for trainer.global_steps in (1, 2, 3):
            _, metrics = run_step(trainer, STEP)
    assert metrics["shape_grpo/responses"] == len(STEP)
    assert len(caplog.records) == 1 and "No space left on device" in caplog.text


@pytest.mark.parametrize("validation_has_the_table", [False, True])
def test_trackers_of_verl_get_them_in_the_one_table_that_they_have(
    make, run_step, tmp_path, monkeypatch, validation_has_the_table
):
    monkeypatch.setenv("TENSORBOARD_DIR", str(tmp_path / "board"))
    trainer = make()
    log = trainer._sample_log
    log._trackers, log._has_table = ["console", "tensorboard"], not validation_has_the_table
    run_step(trainer, STEP)
    if validation_has_the_table:
        assert not (tmp_path / "board").exists()
        return
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    (event,) = board.Tensors("val/generations/text_summary")
    text = event.tensor_proto.string_val[0].decode()
    assert event.step == 1 and "| word1 | 3 | 1.67 | +1.179 |" in text and "**Score:** 3.0" in text


def test_a_tracker_that_fails_is_said_once_and_the_training_goes_on(make, run_step, file, caplog):
    trainer = make(log_samples_every=1)
    trainer._sample_log._trackers = ["a tracker", "vemlp_wandb"]  # which is not installed
    with caplog.at_level(logging.WARNING, "verl"):
        for trainer.global_steps in (1, 2):
            run_step(trainer, STEP)
    assert len(caplog.records) == 1 and "cannot be sent to the trackers" in caplog.text
    assert "## Step 2" in file.read_text()


def test_the_file_is_beside_verls_metrics(monkeypatch, tmp_path):
    from verl.utils.tracking import FileLogger

    from shape_grpo.verl.samples import samples_path

    for variables in (
        {"VERL_FILE_LOGGER_PATH": str(tmp_path / "metrics.jsonl")},
        {"VERL_FILE_LOGGER_ROOT": str(tmp_path)},
    ):
        for name in ("VERL_FILE_LOGGER_PATH", "VERL_FILE_LOGGER_ROOT"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        logger = FileLogger("films", "qwen3-0.6b")
        logger.finish()
        assert str(samples_path("films", "qwen3-0.6b")) == (
            logger.filepath.removesuffix(".jsonl") + ".samples.md"
        )
