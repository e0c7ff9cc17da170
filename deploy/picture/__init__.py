"""docs/terminal.svg, the picture of a real run: recorded by `make picture`, drawn from docs/terminal.txt.

tests/unit/test_picture.py fails if the picture is not that of the text.
"""
