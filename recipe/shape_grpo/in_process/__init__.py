"""Training of a language policy by TRL in one process, without Ray and vLLM."""
