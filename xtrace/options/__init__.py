"""The command line: one table of options, and what reads it: the parser, the help, the documents."""
