"""Where Assent's state lives: PostgreSQL tables, the one way to write them, and the ways to read them."""
