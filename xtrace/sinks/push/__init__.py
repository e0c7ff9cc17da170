"""Samples to a server, by HTTP."""
