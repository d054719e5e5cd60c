"""One function a command: read, ask the domain, write one change set, return. No protobuf, no rules of its own."""
