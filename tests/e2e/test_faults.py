"""Processes of a real run that are killed, and what is left of the run and on the machine.

Run by `./run_scripts/test.sh -m slow`: two to four minutes each.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from recipe.shape_grpo.common.run_folder import CHECKPOINTS, LATEST_CHECKPOINT, read_metrics
from recipe.shape_grpo.runs.processes import session_processes

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SECONDS_TO_END = 60
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
        self.shared_memory = set(os.listdir("/dev/shm"))
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "recipe.shape_grpo.runs", "shape_grpo"]
        command += [str(folder), *overrides, f"trainer.total_training_steps={steps}"]
        self.said = folder / "said.log"
        with self.said.open("w") as said:
            self.process = subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=said)

    def alive(self):
        """The processes of its session: all but the command's own."""
        return session_processes(self.session)

    def wait_for_step(self, step, seconds=900):
        deadline = time.monotonic() + seconds
        while max(read_metrics(self.folder), default=-1) < step:
            assert self.process.poll() is None, self.said.read_text()
            assert time.monotonic() < deadline, self.said.read_text()
            time.sleep(0.2)
        (trainer,) = psutil.Process(self.process.pid).children()
        self.session = trainer.pid

    def kill(self, title):
        """SIGKILL the first process whose title begins so."""
        titles = {" ".join(process.cmdline()): process for process in self.alive()}
        victims = [process for name, process in titles.items() if name.startswith(title)]
        assert victims, sorted(titles)
        victims[0].kill()

    def check_that_nothing_is_left(self):
        assert [" ".join(process.cmdline())[:80] for process in self.alive()] == []
        assert set(os.listdir("/dev/shm")) - self.shared_memory == set()

    def end(self):
        """After a test that failed."""
        if self.process.poll() is None:
            self.process.terminate()
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
        ("ray::RewardLoopWorker", "No response of this step came. A reward worker died"),
        ("ray::AgentLoopWorker", "An agent loop worker died: .*ray"),
        ("VLLM::EngineCore", "An inference server died: EngineDeadError"),
        ("ray::TaskRunner", "ActorDiedError"),
    ],
)
def test_a_killed_process_ends_the_run_within_a_minute_and_it_says_why(start, victim, says):
    """Each is the only one of its kind here; of several verl goes on with those that are left."""
    run = start(steps=1000)
    run.wait_for_step(2)
    run.kill(victim)
    assert run.process.wait(SECONDS_TO_END) == 1
    assert re.search(says, run.said.read_text())
    run.check_that_nothing_is_left()


def test_control_c_ends_all(start):
    run = start(steps=1000)
    run.wait_for_step(1)
    run.process.send_signal(signal.SIGINT)
    run.process.wait(SECONDS_TO_END)
    assert run.process.returncode == 128 + signal.SIGINT
    assert run.said.read_text().endswith("runs: stopped\n")
    run.check_that_nothing_is_left()


def test_a_run_that_was_killed_goes_on_to_the_same_numbers(start):
    """Same data, sampling and optimizer: the steps after the checkpoint are those of a run that
    nobody stopped, but for the order in which a CPU adds."""
    more = [*REPEATABLE, "trainer.save_freq=2", "trainer.resume_mode=auto"]
    whole = start(*more, steps=4, name="whole")
    assert whole.process.wait() == 0, whole.said.read_text()
    broken = start(*more, steps=4, name="broken")
    broken.wait_for_step(2)
    latest = broken.folder / CHECKPOINTS / LATEST_CHECKPOINT
    while not latest.exists():
        time.sleep(0.1)
    broken.kill("ray::TaskRunner")
    assert broken.process.wait() != 0
    broken.check_that_nothing_is_left()
    again = start(*more, steps=4, name="broken")
    assert again.process.wait() == 0, again.said.read_text()
    assert "resuming from the last checkpoint" in again.said.read_text()
    expected, found = read_metrics(whole.folder), read_metrics(broken.folder)
    assert sorted(found) == sorted(expected)
    for step in expected:
        for name in ("critic/score/mean", "actor/pg_loss", "actor/grad_norm"):
            assert found[step][name] == pytest.approx(expected[step][name], rel=1e-4, abs=1e-4)
