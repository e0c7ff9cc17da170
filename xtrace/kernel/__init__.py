"""The kernel: system calls, and what is made of them."""
