"""The `assent` command: starts the services, and speaks to them only through their public API."""
