"""The health of TCP connections, beside mode xdp (--tcp)."""
