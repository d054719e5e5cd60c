"""Benchmarks of Assent on the machine at hand: real processes, real PostgreSQL, one JSON line a run."""
