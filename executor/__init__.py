"""The executor: performs model and tool steps for orchestrators, keeps nothing durable, decides nothing."""
