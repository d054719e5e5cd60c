"""The HTTP face of Assent: JSON and server-sent events in front of its gRPC services. No business rule lives here."""
