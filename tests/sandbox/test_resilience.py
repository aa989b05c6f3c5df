"""Killed parts of the sandbox, unusual callers, and what 500 runs leave behind."""

import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shape_grpo.sandbox import Limits, Sandbox, SandboxError, guests, pool, totals
from tests.sandbox.processes import processes_with
from tests.waiting import wait_until


def make(**options):
    try:
        sandbox = Sandbox("bubblewrap", **options)
    except SandboxError as error:
        pytest.skip(str(error))
    if "warm" in options and not sandbox.warm:
        pytest.skip(sandbox.refusals["warm pool"])
    return sandbox


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def kill_zygote(sandbox):
    signal.pidfd_send_signal(sandbox.pool.init[0], signal.SIGKILL)
    guests.wait_for(sandbox.pool.init[0], 60)


def test_a_killed_zygote_is_replaced():
    sandbox = make(warm=("json",))
    before = descriptors()
    for x in range(3):
        kill_zygote(sandbox)
        assert sandbox.run("y = x", inputs={"x": x}, outputs=["y"]).values() == {"y": x}
    assert descriptors() == before
    sandbox.close()


def test_a_run_whose_zygote_is_killed_is_run_again():
    sandbox = make(warm=("json",))
    run = pool.WarmPool.start
    starts = []

    def start(self):
        starts.append(run(self))
        if len(starts) == 1:
            kill_zygote(sandbox)
        return starts[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool.WarmPool, "start", start)
        try:
            outcome = sandbox.run("x = 1", outputs=["x"])
        except SandboxError:  # it was killed before it had started: not the code's doing either
            outcome = sandbox.run("x = 1", outputs=["x"])
    assert outcome.values() == {"x": 1}
    assert len(starts) == 2
    sandbox.close()


def test_code_that_ends_its_zygote_each_time_has_died_and_is_no_error():
    """A candidate whose reward is an error may leave its set; no program may choose that."""
    sandbox = make(warm=("json",))
    run = sandbox._start

    def start():
        guest, found = run()
        kill_zygote(sandbox)
        return guest, found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sandbox, "_start", start)
        patch.setattr("shape_grpo.sandbox.conversation.Conversation._await_start", lambda _: None)
        assert sandbox.run("x = 1").status == "died"
    sandbox.close()


def test_a_pool_that_cannot_be_replaced_is_an_error_that_leaves_no_descriptor(monkeypatch):
    sandbox = make(warm=("json",))
    kill_zygote(sandbox)
    monkeypatch.setattr(guests, "find_bubblewrap", lambda: "/bin/false")
    before = []
    for _ in range(4):
        with pytest.raises(SandboxError, match="the warm pool did not start"):
            sandbox.run("x = 1")
        before.append(descriptors())
    assert len(set(before[1:])) == 1
    sandbox.close()


def test_the_child_of_a_killed_keeper_dies_with_it():
    sandbox = Sandbox("none", unsafe=True, limits=Limits(seconds=300))
    mark = secrets.token_hex(8)
    killed = []

    def answer(_):
        keepers = [pid for pid in processes_with("keeper.main") if parent_of(pid) == os.getpid()]
        killed.extend(children_of(keepers[0]))
        os.kill(keepers[0], signal.SIGKILL)
        return b""

    code = "ask(b'')\nimport time\ntime.sleep(600)"
    outcome = sandbox.run(code, inputs={"mark": mark}, answer=answer)
    assert outcome.status == "died"
    assert len(killed) == 1
    wait_until(lambda: not Path(f"/proc/{killed[0]}").exists())


def test_a_killed_keeper_leaves_nobody_where_there_is_a_cgroup():
    if totals.cgroup_parent() is None:
        pytest.skip("no cgroup can be made here")
    sandbox = Sandbox("none", unsafe=True, limits=Limits(seconds=300))
    mark = secrets.token_hex(8)

    def answer(_):
        wait_until(lambda: processes_with(mark))
        keepers = [pid for pid in processes_with("keeper.main") if parent_of(pid) == os.getpid()]
        os.kill(keepers[0], signal.SIGKILL)
        return b""

    code = "import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-c', "
    code += "'import time; time.sleep(600)', mark])\nask(b'')\ntime.sleep(600)"
    assert sandbox.run(code, inputs={"mark": mark}, answer=answer).status == "died"
    wait_until(lambda: not processes_with(mark))
    assert list(totals.cgroup_parent().glob(f"sandbox-{os.getpid()}-*")) == []


def parent_of(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")")[1].split()[1])


def children_of(pid):
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def test_a_folder_too_deep_for_recursion_is_removed_without_isolation_too(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sandbox = Sandbox("none", unsafe=True, limits=Limits(seconds=60))
    code = "import os\nfor _ in range(3000):\n    os.mkdir('d'); os.chdir('d')"
    assert sandbox.run(code).status == "done"
    assert list(tmp_path.iterdir()) == []


def test_a_fork_of_the_caller_leaves_the_pool_alone_and_has_its_own():
    sandbox = make(warm=("json",))
    zygote = sandbox.pool
    child = os.fork()
    if child == 0:
        code = 1
        try:
            own = sandbox.run("x = 1", outputs=["x"]).values() == {"x": 1}
            code = 0 if own and sandbox.pool is not zygote else 2
            sandbox.close()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sandbox.pool is zygote
    assert sandbox.run("x = 2", outputs=["x"]).values() == {"x": 2}
    assert sandbox.pool is zygote
    sandbox.close()


FORKER = """
import os, sys
from shape_grpo.sandbox import Sandbox
sandbox = Sandbox("bubblewrap", warm=("json",))
if not sandbox.warm: sys.exit("skip: " + sandbox.refusals["warm pool"])
zygote = sandbox.pool
child = os.fork()
if child == 0: sys.exit(0)  # by way of its atexit handlers
os.waitpid(child, 0)
assert sandbox.run("x = 1", outputs=["x"]).values() == {"x": 1}
assert sandbox.pool is zygote
print("fine")
"""


def python(code, *wrapper):
    make()
    command = [*wrapper, sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "skip: " in done.stderr:
        pytest.skip(done.stderr)
    return done


def test_a_fork_of_the_caller_may_exit_in_the_usual_way():
    done = python(FORKER)
    assert done.stdout == "fine\n", done.stderr


CROWDED = """
import os, resource, sys
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
if most < 3000: sys.exit("skip: no more than %d descriptors" % most)
resource.setrlimit(resource.RLIMIT_NOFILE, (3000, most))
held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1500)]
from shape_grpo.sandbox import Limits, Sandbox
for options in ({"backend": "bubblewrap"}, {"backend": "bubblewrap", "warm": ("json",)},
                {"backend": "none", "unsafe": True}):
    sandbox = Sandbox(limits=Limits(seconds=60), **options)
    assert "warm" not in options or sandbox.warm, sandbox.refusals
    assert sandbox.run("x = 1", outputs=["x"]).values() == {"x": 1}
    assert sandbox.run("while True: pass", seconds=1).status == "timeout"
print("fine")
"""


def test_a_caller_with_more_descriptors_than_select_can_name():
    done = python(CROWDED)
    assert done.stdout == "fine\n", done.stderr


FIRST = """
import os, sys
from shape_grpo.sandbox import Sandbox, SandboxError
if CHILD:
    child = os.fork()
    if child: sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
for options in ({}, {"warm": ("json",)}):
    sandbox = Sandbox("bubblewrap", **options)
    assert not sandbox.refusals, sandbox.refusals
    assert sandbox.run("x = 1", outputs=["x"]).values() == {"x": 1}
print("fine, as", os.getpid())
"""


@pytest.mark.parametrize("pid", [1, 2])
def test_a_caller_that_is_the_first_process_of_a_container(pid):
    unshare = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    tried = subprocess.run([*unshare, "true"], capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no pid namespace for the caller: {tried.stderr!r}")
    done = python(FIRST.replace("CHILD", str(pid == 2)), *unshare)
    assert done.stdout == f"fine, as {pid}\n", done.stderr


NOBODY = """
import os
from shape_grpo.sandbox import Limits, Sandbox, totals
assert os.getuid() == 1000
totals.cgroup_parent = lambda: None
hungry = "held = bytearray(100 << 20); held[::4096] = b'x' * 25600; time.sleep(600)"
code = "import os, time\\nwho = os.getuid()\\nif hungry:\\n"
code += "    for _ in range(8):\\n        if os.fork() == 0: " + hungry + "\\n    time.sleep(600)"
for options in ({}, {"warm": ("json",)}):
    sandbox = Sandbox("bubblewrap", limits=Limits(seconds=60, memory=256 << 20), **options)
    assert not sandbox.refusals, sandbox.refusals
    assert sandbox.run(code, inputs={"hungry": 0}, outputs=["who"]).values() == {"who": 1000}
    assert sandbox.run(code, inputs={"hungry": 1}).status == "died"
print("fine")
"""


def test_a_caller_that_is_not_root():
    """It must make a user namespace for the sandbox, and see the memory of processes in it."""
    unshare = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
    tried = subprocess.run([*unshare, "true"], capture_output=True, check=False)
    if tried.returncode != 0:
        pytest.skip(f"no user namespace for the caller: {tried.stderr!r}")
    done = python(NOBODY, *unshare)
    assert done.stdout == "fine\n", done.stderr


def test_a_module_that_starts_a_thread_is_not_warm():
    make()
    folder = Path(__file__).parent / "modules"
    sandbox = Sandbox("bubblewrap", readable=[str(folder)])
    with pytest.MonkeyPatch.context() as patch:
        command = pool.worker_command
        patch.setattr(pool, "worker_command", lambda module, *arguments: [
            part.replace("import sys;", f"import sys; sys.path.append({str(folder)!r});", 1)
            for part in command(module, *arguments)
        ])  # fmt: skip
        sandbox._warm_up(["json", "starts_a_thread"])
    assert sandbox.warm == ()
    assert "importing starts_a_thread starts a thread" in sandbox.refusals["warm pool"]
    assert sandbox.run("x = 1", outputs=["x"]).values() == {"x": 1}


def test_pandas_and_the_libraries_of_rewards_start_no_thread():
    pytest.importorskip("pyarrow")
    sandbox = make(warm=("pandas", "pyarrow", "sklearn.linear_model"))
    code = "import os, sys; warm = 'pyarrow' in sys.modules"
    assert sandbox.run(code, outputs=["warm"]).values() == {"warm": True}
    sandbox.close()


def memory():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_500_runs_leave_nothing_behind(tmp_path, monkeypatch):
    """No descriptor, process (inside or outside), folder, cgroup or memory is left."""
    sandbox = make(warm=("json",))
    endings = ["x = 1", "1 / 0", "import os; os._exit(0)", "import os; os.fork()"]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def state():
        zygote = pool.pid_of(sandbox.pool.init[0])
        return descriptors(), children_of(zygote), children_of(os.getpid())

    def runs(count):
        for i in range(count):
            outcome = sandbox.run(endings[i % len(endings)], outputs=["x"])
            assert outcome.status in ("done", "error", "died")

    runs(100)
    wait_until(lambda: state()[1] == [])
    before, used = state(), memory()
    runs(500)
    wait_until(lambda: state() == before)
    assert memory() - used < 8 << 20
    assert list(tmp_path.iterdir()) == []
    if (parent := totals.cgroup_parent()) is not None:
        assert list(parent.glob(f"sandbox-{os.getpid()}-*")) == []
    sandbox.close()
