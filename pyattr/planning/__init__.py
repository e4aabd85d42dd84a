"""What a verification will cost, by every method, before anything is trained."""

from pyattr.planning.plan import Plan, plan
from pyattr.planning.situation import Prices, Situation

__all__ = ["Plan", "Prices", "Situation", "plan"]
