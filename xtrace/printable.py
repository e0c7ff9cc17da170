"""Names that others chose, made fit for a line of text."""


def printable(text: str, instead: str = "?", kept: str = "") -> str:
    """`text` with `instead` for what a terminal would act upon, a line's end too, but for the characters `kept`."""
    return "".join(character if character.isprintable() or character in kept else instead for character in text)
