"""Results: metrics, distributions, comparisons and fleets from counts of states."""
