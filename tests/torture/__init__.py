"""The long forms of the proof, outside the ordinary test run: how much can be survived, and how fast."""
