"""Owners of flows, for mode xdp (--owners)."""
