"""xtrace-catch: a network monitor that counts every packet exactly once."""
