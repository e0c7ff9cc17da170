"""The container image, as an archive that is the same whoever makes it."""
