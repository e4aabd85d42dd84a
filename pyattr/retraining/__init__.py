"""Retraining: what turns masks and seeds into outputs."""

from pyattr.retraining.retrain import Retrain, retrain_with

__all__ = ["Retrain", "retrain_with"]
