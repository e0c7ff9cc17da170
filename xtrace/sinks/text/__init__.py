"""Lines for people."""
