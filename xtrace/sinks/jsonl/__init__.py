"""JSON Lines for programs."""
