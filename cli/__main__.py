"""`python -m cli` is `assent`."""

from cli.main import app

app()
