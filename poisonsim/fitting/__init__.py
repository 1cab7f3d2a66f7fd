"""Logs of a fleet fitted: rates and their intervals, clusters, fault modes, address maps, and a model to simulate."""
