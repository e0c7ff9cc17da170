"""The command line: one table of options, from which the parser, the help and the documents are made."""
