"""Faults: which base pages are poisoned, and when; the same for every policy."""
