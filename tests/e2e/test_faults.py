"""Processes of a real run that are killed, and what is left of the run and on the machine.

Run by `./run_scripts/test.sh -m slow`: two to four minutes each.
"""

import os
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from recipe.shape_grpo.runs.folder import read_metrics

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SECONDS_TO_END = 60
MARK = "SHAPE_GRPO_FAULT"
# Rollouts that do not depend on who draws them when: one answer a prompt, the likeliest. verl gives
# a group of one its reward as the advantage.
REPEATABLE = [
    "actor_rollout_ref.rollout.n=1",
    "actor_rollout_ref.rollout.top_k=1",
    f"reward.custom_reward_function.path={HERE}/letters_reward.py",
    "trainer.val_before_train=false",
]


class Run:
    """A run by the recipe's command, and every process that has come of it."""

    def __init__(self, folder, overrides, steps):
        self.folder = folder
        self.mark = secrets.token_hex()
        self.shared_memory = set(os.listdir("/dev/shm"))
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "recipe.shape_grpo.runs", "--backend=cpu", "shape_grpo"]
        command += [str(folder), *overrides, f"trainer.total_training_steps={steps}"]
        self.said = (folder / "said.log").open("w+")
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, MARK: self.mark},
            stdout=self.said,
            stderr=subprocess.STDOUT,
        )

    def alive(self):
        """Its processes, the command's own included; found by what they inherit."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.environ().get(MARK) == self.mark and process.status() != "zombie":
                    found.append(process)
            except psutil.Error:
                continue
        return found

    def wait_for_step(self, step, seconds=900):
        deadline = time.monotonic() + seconds
        while max(read_metrics(self.folder), default=-1) < step:
            assert self.process.poll() is None, self.words()
            assert time.monotonic() < deadline, self.words()
            time.sleep(0.2)

    def kill(self, title):
        """SIGKILL the process whose title begins so."""
        victims = [p for p in self.alive() if " ".join(p.cmdline()).startswith(title)]
        titles = sorted(" ".join(p.cmdline())[:60] for p in self.alive())
        assert victims, titles
        victims[0].kill()

    def words(self):
        """What it printed."""
        self.said.flush()
        return (self.folder / "said.log").read_text()

    def check_that_nothing_is_left(self):
        deadline = time.monotonic() + 30
        while (left := self.alive()) and time.monotonic() < deadline:
            time.sleep(1)
        assert [" ".join(p.cmdline())[:80] for p in left] == []
        assert set(os.listdir("/dev/shm")) - self.shared_memory == set()

    def end(self):
        """After a test that failed."""
        for process in self.alive():
            process.kill()
        self.process.wait()


@pytest.fixture
def start(overrides, tmp_path):
    runs = []

    def begin(*more, steps, name="run"):
        runs.append(Run(tmp_path / name, [*overrides, *more], steps))
        return runs[-1]

    yield begin
    for run in runs:
        run.end()


@pytest.mark.parametrize(
    ("victim", "says"),
    [
        ("ray::RewardLoopWorker", None),
        ("ray::AgentLoopWorker", "Actor"),
        ("VLLM::EngineCore", "Engine"),
        ("ray::TaskRunner", "ActorDiedError"),
    ],
)
def test_a_killed_process_is_seen_or_ends_the_run(start, victim, says):
    """Either the metrics show it, or the run ends within a minute, and says why."""
    run = start(steps=1000)
    run.wait_for_step(2)
    run.kill(victim)
    began, last = time.monotonic(), max(read_metrics(run.folder))
    while run.process.poll() is None and time.monotonic() - began < SECONDS_TO_END:
        time.sleep(0.5)
    if run.process.poll() is None:
        later = [data for step, data in read_metrics(run.folder).items() if step > last]
        assert later, "it neither trains on nor ends"
        came = [data["shape_grpo/responses"] for data in later]
        assert min(came) < later[0]["shape_grpo/responses_expected"]
        run.process.send_signal(signal.SIGINT)
        run.process.wait(SECONDS_TO_END)
    else:
        assert run.process.returncode == 1 and says in run.words()
    run.check_that_nothing_is_left()


def test_control_c_ends_all(start):
    run = start(steps=1000)
    run.wait_for_step(1)
    run.process.send_signal(signal.SIGINT)
    run.process.wait(SECONDS_TO_END)
    assert run.process.returncode != 0
    run.check_that_nothing_is_left()


def test_a_run_that_was_killed_goes_on_to_the_same_numbers(start):
    """Same data, sampling and optimizer: the steps after the checkpoint are those of a run that
    nobody stopped, but for the order in which a CPU adds."""
    more = [*REPEATABLE, "trainer.save_freq=2", "trainer.resume_mode=auto"]
    whole = start(*more, steps=4, name="whole")
    assert whole.process.wait() == 0, whole.words()
    broken = start(*more, steps=4, name="broken")
    broken.wait_for_step(2)
    latest = broken.folder / "checkpoints/latest_checkpointed_iteration.txt"
    while not latest.exists():
        time.sleep(0.1)
    broken.kill("ray::TaskRunner")
    assert broken.process.wait() != 0
    broken.check_that_nothing_is_left()
    again = start(*more, steps=4, name="broken")
    assert again.process.wait() == 0, again.words()
    assert "going on from the last checkpoint" in again.words()
    expected, found = read_metrics(whole.folder), read_metrics(broken.folder)
    assert sorted(found) == sorted(expected)
    for step in expected:
        for name in ("critic/score/mean", "actor/pg_loss", "actor/grad_norm"):
            assert found[step][name] == pytest.approx(expected[step][name], rel=1e-4, abs=1e-4)
