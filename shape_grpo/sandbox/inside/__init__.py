"""What runs inside the sandbox: plain scripts, started by path, that import nothing else of ours."""
