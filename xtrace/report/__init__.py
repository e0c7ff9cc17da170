"""`xtrace-catch report`: one page from the JSON Lines of a run. Unprivileged; imports nothing of kernel/."""
