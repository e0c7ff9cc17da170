"""In place of the standard library's: orjson wants the class, to know its instances by; nothing makes one here."""


class ZoneInfo:
    """A time zone's data, of which the executable has none."""
