"""Solutions on a Sandbox Fusion server: the same scores, and failures of server or program."""

import logging
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from reward_fns import ds1000, sandbox_fusion
from reward_fns.ds1000 import compute_score, run_tests
from reward_fns.sandbox_fusion import SandboxFusion
from shape_grpo.sandbox import Sandbox, SandboxError
from tests.reward_fns.ds1000_mutants import ATTACKS
from tests.reward_fns.ds1000_problems import PROBLEMS
from tests.reward_fns.fusion_server import FAULTS, FusionServer, saying, seem_to_run, status

BY_NAME = {problem.name: problem for problem in PROBLEMS}
RUNS = BY_NAME["numpy_runs"]
SECONDS = 60.0


@pytest.fixture
def server():
    with FusionServer().running() as running:
        yield running


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(sandbox_fusion, "PATIENCE", 0.2)


def client(server, **options):
    options = {"seconds": SECONDS, "memory": 4 << 30, "retries": 2, **options}
    return SandboxFusion(server.url, **options)


def score(problem, solution, server, **options):
    extra_info = {"library": problem.library}
    options = {"sandbox_fusion_url": server.url, "seconds": SECONDS, **options}
    return compute_score("ds1000", solution, problem.code_context, extra_info, **options)["score"]


@pytest.mark.parametrize(
    "name",
    ["numpy_function_body", "pandas_category", "scipy_sparse_rows", "sklearn_vocabulary"],
)
def test_scores_are_those_of_a_sandbox_here(server, name):
    problem = BY_NAME[name]
    assert score(problem, problem.reference, server) == 1.0
    for why, solution in problem.wrong.items():
        assert score(problem, solution, server) == 0.0, why
    assert len(server.asked) >= len(problem.cases) + len(problem.wrong)


def test_a_share_of_the_tests(server):
    assert score(RUNS, "result = np.array([2, 3, 1])", server, share=True) == pytest.approx(1 / 3)


def test_the_request_is_the_apis(server):
    client(server).run("", inputs={"x": 1})
    (request,) = server.asked
    assert set(request) == {
        *("language", "code", "stdin", "run_timeout", "compile_timeout", "memory_limit_MB")
    }
    assert request["language"] == "python"
    assert request["run_timeout"] == SECONDS
    assert request["memory_limit_MB"] == 4096


def test_values_and_messages_come_back(server):
    heard = []
    code = "import numpy as np\nreply = ask(b'\\xff\\n')\nprint('= {}')\ny = np.arange(x)"
    ended = client(server).run(code, inputs={"x": 3}, outputs=["y", "reply"], answer=heard.append)
    assert ended.status == "done"
    assert ended.values()["y"].tolist() == [0, 1, 2]
    assert ended.values()["reply"] == b""
    assert heard == [b"\xff\n"]


WRITE = (
    "import os\nfor fd in range(3, 50):\n    try: os.write(fd, {!r})\n    except OSError: pass\n"
)


@pytest.mark.parametrize(
    ("code", "status", "why"),
    [
        ("1 / 0", "error", "ZeroDivisionError"),
        ("import sys; sys.exit(0)", "error", "SystemExit"),
        ("y = lambda: 0", "error", "cannot be handed over"),
        ("", "error", "KeyError"),
        ("import os; os._exit(0)", "died", "without a reply"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "died", "without a reply"),
        ("import os; os.closerange(0, 99)", "died", "without a reply"),
        ("y = 'x' * (2 << 20)", "output", "cut off"),
        (WRITE.format(b"? no base64!\n") + "y = 0", "died", "wrote into"),
        (WRITE.format(b"nonsense\n") + "y = 0", "died", "wrote into"),
        (WRITE.format(b"\xff\xfe\n") + "y = 0", "died", "wrote into"),
        (WRITE.format(b"started\n") + "y = 0", "died", "wrote into"),
    ],
)
def test_what_a_program_does_is_its_own_fault(server, code, status, why):
    outcome = client(server).run(code, outputs=["y"])
    assert outcome.status == status
    assert why in outcome.detail
    assert len(server.asked) == 1


def test_an_endless_program_is_late(server):
    late = {"status": "TimeLimitExceeded", "stdout": "started\n", "stderr": ""}
    server.faults.append(saying({"status": "Failed", "message": "", "run_result": late}))
    assert client(server).run("while True: pass", outputs=["y"]).status == "timeout"


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_that_passes_changes_no_score(server, impatient, what):
    server.faults.append(FAULTS[what])
    server.run = seem_to_run
    outcome = client(server, seconds=2).run("y = 1", outputs=["y"])
    assert outcome.values() == {"y": 1}
    assert len(server.asked) == 2


@pytest.mark.parametrize("what", FAULTS)
def test_a_server_that_fails_with_every_program_is_an_error(server, impatient, what):
    server.faults.extend([FAULTS[what]] * 20)
    with pytest.raises(SandboxError, match="fails with every program"):
        client(server, seconds=0.5, retries=0).run("y = 1", outputs=["y"])
    assert len(server.asked) == 3


@pytest.mark.parametrize("what", FAULTS)
def test_a_program_that_alone_makes_the_server_fail_earns_nothing(server, impatient, what):
    server.fault = FAULTS[what]
    server.run = seem_to_run
    server.crash = b"crash!"
    outcome = client(server, seconds=2, retries=0).run("y = 'crash!'", outputs=["y"])
    assert outcome.status == "died"
    assert "not with others" in outcome.detail


@pytest.mark.parametrize("code", [400, 401, 404, 422, 307])
def test_a_refusal_is_an_error_at_once(server, code):
    server.faults.append(status(code))
    with pytest.raises(SandboxError, match=f"refuses: status {code}"):
        client(server).run("")
    assert len(server.asked) == 1


@pytest.mark.parametrize("code", [429, 503])
def test_a_busy_server_is_asked_again_when_it_says_so(server, code):
    server.faults.extend([status(code, Retry_After="0")] * 2)
    assert client(server).run("y = 1", outputs=["y"]).values() == {"y": 1}
    assert len(server.asked) == 3


@pytest.mark.parametrize("code", [429, 503])
def test_a_server_that_stays_busy_is_an_error(server, code):
    server.faults.extend([status(code, Retry_After="0")] * 20)
    with pytest.raises(SandboxError, match=f"refuses: status {code}"):
        client(server).run("y = 1", outputs=["y"])
    assert len(server.asked) == 3


def test_an_unreachable_server_is_an_error():
    with socket.socket() as taken:  # bound, and not listening
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/run_code"
        with pytest.raises(SandboxError, match="cannot reach"):
            SandboxFusion(url, seconds=1, memory=1 << 30, retries=0).run("")


def test_a_server_without_the_libraries_is_an_error(server):
    no_module = b"\x80\x04cno_such_library\nAnything\n."
    with pytest.raises(SandboxError, match="No module named 'no_such_library'"):
        client(server).run("y = 1", inputs=no_module, outputs=["y"])


def test_a_server_too_slow_to_start_a_program_is_an_error(server):
    late = {"status": "TimeLimitExceeded", "stdout": "", "stderr": ""}
    server.faults.append(saying({"status": "Failed", "message": "", "run_result": late}))
    with pytest.raises(SandboxError, match="could not start"):
        client(server).run("y = 1", outputs=["y"])


@pytest.mark.parametrize("url", ["localhost:8080/run_code", "/run_code", "ftp://x", "", "http://"])
def test_an_invalid_address_is_an_error(url):
    with pytest.raises(ValueError, match=r"reward\.sandbox_fusion\.url=http"):
        score(RUNS, RUNS.reference, type("Nowhere", (), {"url": url}))


def test_no_more_requests_at_a_time_than_the_limit(server):
    def slowly(handler):
        time.sleep(0.1)
        status(404)(handler)

    server.faults.extend([slowly] * 12)
    fusion = client(server, max_concurrent=3)

    def refused():
        with pytest.raises(SandboxError):
            fusion.run("")

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda _: refused(), range(12)))
    assert len(server.asked) == 12
    assert server.most <= 3


def test_failures_free_their_place_among_the_requests(server, impatient):
    fusion = client(server, seconds=0.5, retries=0, max_concurrent=1)
    for fault in (*FAULTS.values(), status(404), status(429)):
        server.faults.extend([fault] * 3)
        with pytest.raises(SandboxError):
            fusion.run("")
        server.faults.clear()
    server.run = seem_to_run
    assert fusion.run("y = 1", outputs=["y"]).values() == {"y": 1}


def test_errors_of_the_server_are_errors_of_the_score(server, impatient, monkeypatch):
    monkeypatch.setattr(ds1000, "find_server", lambda *a: client(server, retries=0))
    server.faults.extend([FAULTS["500"]] * 9)
    with pytest.raises(SandboxError):
        score(RUNS, RUNS.reference, server)
    server.faults.clear()
    assert score(RUNS, RUNS.reference, server) == 1.0
    server.crash = b"crash!"
    assert score(RUNS, f"x = 'crash!'\n{RUNS.reference}", server) == 0.0


@pytest.mark.parametrize(
    "what", ["the encoder", "a forged verdict", "printed verdicts", "every frame's variables"]
)
def test_attacks_on_the_server_earn_nothing(server, what):
    assert score(RUNS, ATTACKS[what], server) == 0.0


def test_with_together_the_scorer_runs_there_too_and_its_verdict_is_read_strictly(server):
    problem = BY_NAME["numpy_row_maxima"]
    options = {"together": ["Numpy"], "share": True}
    assert score(problem, problem.reference, server, **options) == 1.0
    assert len(server.asked) == 1
    assert score(problem, "result = a / a.max(axis=0)", server, **options) == 0.0
    for claim in ("NaN", "3", "-1", "1.5", "true", "null", '"2"', "[2]", "1e3"):
        line = f'= {{"passed": {claim}}}\n'.encode()
        assert score(problem, WRITE.format(line) + "os._exit(0)", server, **options) == 0.0, claim


def test_the_scorer_needs_no_sandbox_if_solutions_run_on_a_server(server):
    here = Sandbox("none", unsafe=True)
    fusion = client(server)
    assert run_tests(here, RUNS.code_context, RUNS.reference, server=fusion) == 1.0
    assert len(server.asked) == len(RUNS.cases)


def test_the_log_says_where_programs_run(server, caplog):
    ds1000.find_server.cache_clear()
    with caplog.at_level(logging.WARNING):
        score(RUNS, "result = 0", server)
    assert f"solutions run on {server.url}" in caplog.text
