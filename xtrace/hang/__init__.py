"""`xtrace-catch hang`: verdicts about NCCL's communicators, from the JSON Lines of all their hosts."""
