"""Measurements, kept apart from the tests: each script prints its table and writes CSV and JSON."""
