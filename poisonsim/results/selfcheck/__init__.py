"""What `poisonsim verify` checks of itself: each check with a number, the truth, what is allowed, and a verdict."""

from poisonsim.results.selfcheck.checks import ALPHA, Check, Section
from poisonsim.results.selfcheck.every import self_check

__all__ = ["ALPHA", "Check", "Section", "self_check"]
