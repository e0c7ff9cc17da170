"""docs/troubleshooting.md: the messages of the source, and what to do about each."""
