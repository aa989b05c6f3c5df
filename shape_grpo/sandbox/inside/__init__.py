"""What runs inside the sandbox: plain scripts that import nothing else of ours."""
