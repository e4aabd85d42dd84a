"""pyattr: data attribution that can be verified.

Attribution: `empirical_influence`, `fit_datamodel`, `leave_one_out`; from sums over rows alone,
`SufficientStatistics` and `fit_statistics`. Verification: `verify`, `verify_recorded`, and `plan` for
what it will cost. Between two parties: `Prover`, `Verifier`. Importing this module loads none of
torch, scikit-learn or ray.
"""

from pyattr.attribution import (
    Attribution,
    FixedPointScale,
    SufficientStatistics,
    empirical_influence,
    fit_datamodel,
    fit_statistics,
    leave_one_out,
    load_attribution,
)
from pyattr.errors import ProtocolError, Rejected
from pyattr.include_dir import get_include
from pyattr.kernels import margins
from pyattr.masks import Masks, sample_masks, sample_seeds
from pyattr.planning import plan
from pyattr.protocol import Prover, Verifier
from pyattr.retraining.retrain import retrain_with
from pyattr.verification import (
    ClusterDesign,
    Outcome,
    StarDesign,
    Verdict,
    verify,
    verify_recorded,
)

__version__ = "0.1.0"

__all__ = [
    "Attribution",
    "ClusterDesign",
    "FixedPointScale",
    "Masks",
    "Outcome",
    "ProtocolError",
    "Prover",
    "Rejected",
    "StarDesign",
    "SufficientStatistics",
    "Verdict",
    "Verifier",
    "__version__",
    "empirical_influence",
    "fit_datamodel",
    "fit_statistics",
    "get_include",
    "leave_one_out",
    "load_attribution",
    "margins",
    "plan",
    "retrain_with",
    "sample_masks",
    "sample_seeds",
    "verify",
    "verify_recorded",
]
