"""TCP connections followed by their packets, beside mode xdp (--tcp-packets)."""
