"""The orchestrator owns sessions, plans, runs, approvals, events and the ledger; only it talks to the database."""
