"""The engine claims sessions and drives their runs: reconcile, write, start, fold, until nothing is left to do."""
