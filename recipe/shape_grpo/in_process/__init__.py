"""Training of a language policy in this process by TRL, without Ray and vLLM."""
