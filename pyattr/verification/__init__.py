"""Checking that an attribution is near-optimal, without trusting whoever made it."""

from pyattr.verification.clusters import ClusterDesign
from pyattr.verification.stars import StarDesign
from pyattr.verification.verdict import Outcome, Verdict
from pyattr.verification.verify import verify
from pyattr.verification.verify_recorded import verify_recorded

__all__ = ["ClusterDesign", "Outcome", "StarDesign", "Verdict", "verify", "verify_recorded"]
