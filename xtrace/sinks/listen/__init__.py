"""Serve metrics, flows and health over HTTP."""
