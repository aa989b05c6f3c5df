from shape_grpo.sandbox.limits import Limits, Outcome, SandboxError
from shape_grpo.sandbox.runner import Sandbox, shared_sandbox

__all__ = ["Limits", "Outcome", "Sandbox", "SandboxError", "shared_sandbox"]
