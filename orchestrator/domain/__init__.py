"""The rules of Assent, pure: no I/O, no clock, no randomness, no protobuf, no SQL."""
