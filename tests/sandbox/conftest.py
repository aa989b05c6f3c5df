"""Every sandbox that works on this machine; all get the same attacks."""

import pytest

from shape_grpo.sandbox import Limits, Sandbox, SandboxError

LIMITS = Limits(seconds=20, memory=2 << 30, processes=24, disk=8 << 20, output=1 << 20)
KINDS = {
    "bubblewrap": {"backend": "bubblewrap"},
    "warm": {"backend": "bubblewrap", "warm": ("numpy",)},
}


@pytest.fixture(scope="session", params=KINDS)
def sandbox(request):
    try:
        sandbox = Sandbox(limits=LIMITS, **KINDS[request.param])
    except SandboxError as error:
        pytest.skip(str(error))
    if request.param == "warm" and not sandbox.warm:
        pytest.skip(sandbox.refusals["warm pool"])
    yield sandbox
    sandbox.close()
