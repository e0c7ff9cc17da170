"""Modes that know more together: monitors around monitors."""
