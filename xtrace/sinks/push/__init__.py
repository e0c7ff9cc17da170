"""Push samples to a server over HTTP."""
