"""Following sessions: the durable log from any sequence, then what is written as it is written, with live deltas."""
