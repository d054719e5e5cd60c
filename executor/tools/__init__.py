"""What agents can do to a workspace: the tools built in, and the walls around them."""
