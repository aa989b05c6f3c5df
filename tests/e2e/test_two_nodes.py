"""A launch script on a Ray cluster: the step must not depend on how many machines share it.

Run by `./run_scripts/test.sh -m slow`.
"""

import secrets
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from verl.utils.net_utils import get_free_port

from recipe.shape_grpo.common.run_folder import read_metrics
from recipe.shape_grpo.runs.launch import cpu_environment
from recipe.shape_grpo.sweep.cells import preparations, read_sweep
from recipe.shape_grpo.sweep.run import run_command

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
STEPS = 3
RAY = Path(sys.executable).with_name("ray")
# Ray takes the place of a machine for each of its nodes; every process of verl claims a CPU.
NODE = [RAY, "start", "--block", "--num-cpus=8", "--num-gpus=1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Prompts of the Netflix task and a policy that has learnt its format."""
    output = tmp_path_factory.mktemp("sweep")
    for command in preparations(read_sweep("tiny", ["tasks=[netflix_history]"]), output):
        assert run_command(command, output / "prepare.log") == 0, (
            output / "prepare.log"
        ).read_text()
    return output / "data" / "netflix_history-k3"


@contextmanager
def ray_cluster(nodes, folder, environment):
    """A Ray cluster of so many nodes, all on this machine; its address."""
    port, _ = get_free_port("127.0.0.1")
    client_port, _ = get_free_port("127.0.0.1")
    address = f"127.0.0.1:{port}"
    head = ["--head", f"--port={port}", f"--ray-client-server-port={client_port}"]
    with ExitStack() as stack:
        # Ray notes its address in that folder, for whoever comes next, and leaves it there. The
        # names of its sockets must be short.
        own = stack.enter_context(TemporaryDirectory(prefix="ray-", dir="/tmp"))
        head += ["--include-dashboard=false", f"--temp-dir={own}"]
        for number, options in enumerate([head, *[[f"--address={address}"]] * (nodes - 1)]):
            log = folder / f"node-{number}.log"
            output = stack.enter_context(log.open("w"))
            node = subprocess.Popen(
                [*NODE, *options], cwd=ROOT, env=environment, stdout=output, stderr=output
            )
            stack.callback(node.wait)
            stack.callback(node.terminate)
            while "Ray runtime started" not in log.read_text():
                assert node.poll() is None, log.read_text()
                time.sleep(1)
        yield address


def train(nodes, folder, run):
    """The metrics of each step of a run on so many nodes."""
    run.mkdir()
    environment = cpu_environment(run / "metrics.jsonl")
    environment |= {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "RUN": str(run)}
    # Nobody else may use the cluster.
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex()}
    overrides = [
        *(
            "--verbose",
            "+backend=cpu",
            "+scale=tiny",
            "dataset.candidates=3",
            f"dataset.folder={folder}",
        ),
        f"reward.custom_reward_function.path={Path(__file__).with_name('letters_reward.py')}",
        # Rollouts that do not depend on who draws them: one answer a prompt, the likeliest. verl
        # gives a group of one its reward as the advantage.
        *("actor_rollout_ref.rollout.n=1", "actor_rollout_ref.rollout.top_k=1"),
        *("data.train_batch_size=4", "data.shuffle=false"),
        # The cluster has its own; Ray refuses them.
        *("ray_kwargs.ray_init.num_cpus=null", "~ray_kwargs.ray_init.num_gpus"),
        "~ray_kwargs.ray_init.include_dashboard",
        *(f"trainer.total_training_steps={STEPS}", "trainer.test_freq=-1"),
    ]
    command = [ROOT / "run_scripts/run_netflix_history.sh", "shape_grpo", *overrides]
    with (run / "script.log").open("w") as log, ray_cluster(nodes, run, environment) as address:
        environment |= {"RAY_ADDRESS": address, "NNODES": str(nodes)}
        done = subprocess.run(command, env=environment, stdout=log, stderr=log, check=False)
    assert done.returncode == 0, (run / "script.log").read_text()[-5000:]
    metrics = read_metrics(run)
    return [metrics[step] for step in range(1, STEPS + 1)]


def test_two_nodes_take_the_step_of_one(folder, tmp_path):
    one = train(1, folder, tmp_path / "one")
    two = train(2, folder, tmp_path / "two")
    for alone, shared in zip(one, two, strict=True):
        assert alone["actor/grad_norm"] > 1e-3 and alone["shape_grpo/credit_spread"] > 0.1
        for key in ("critic/score/mean", "actor/pg_loss", "actor/grad_norm"):
            assert shared[key] == pytest.approx(alone[key], rel=1e-4, abs=1e-4), key
