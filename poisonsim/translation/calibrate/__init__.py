"""Measures real machines: TLBs, page walks and mixed mappings, and what the kernel counts for them.

The one part of `translation` that maps memory, reads clocks and draws random numbers. Names load on first use, as
Numba is slow to load.
"""
