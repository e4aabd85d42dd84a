"""Checking that an attribution is near-optimal, without trusting whoever made it."""

from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.verdict import Outcome, Verdict
from pyattr.verification.verify import verify

__all__ = ["ClusterDesign", "Outcome", "Verdict", "verify"]
