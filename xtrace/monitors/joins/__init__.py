"""Monitors that combine the data of two modes."""
