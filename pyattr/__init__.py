"""pyattr: data attribution that can be verified.

Attribution: `empirical_influence`, `fit_datamodel`, `leave_one_out`; from sums over rows alone,
`SufficientStatistics` and `fit_statistics`. Verification: `verify`, `verify_recorded`, and `plan` for
what it will cost. Between two parties: `Prover`, `Verifier`.

Importing this module loads nothing, not even NumPy: a name is imported when it is first asked for, and
so are the submodules (``pyattr.plots``, ``pyattr.datasets``). The names are logged under ``pyattr``;
``logging.basicConfig(level="INFO")`` shows the progress of long verifications.
"""

import importlib
import logging
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pyattr.attribution import (
        Attribution,
        FixedPointScale,
        SufficientStatistics,
        empirical_influence,
        fit_datamodel,
        fit_statistics,
        load_attribution,
    )
    from pyattr.attribution.leave_one_out import leave_one_out
    from pyattr.errors import ProtocolError, Rejected
    from pyattr.include_dir import get_include
    from pyattr.kernels import margins
    from pyattr.masks import Masks, sample_masks, sample_seeds
    from pyattr.planning.plan import plan
    from pyattr.protocol import Prover, Verifier
    from pyattr.retraining.retrain import retrain_with
    from pyattr.verification import ClusterDesign, Outcome, StarDesign, Verdict
    from pyattr.verification.verify import verify
    from pyattr.verification.verify_recorded import verify_recorded

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

# Where each public name is defined: the imports above, for programs.
_HOMES: Final = MappingProxyType(
    {
        "Attribution": "pyattr.attribution",
        "ClusterDesign": "pyattr.verification",
        "FixedPointScale": "pyattr.attribution",
        "Masks": "pyattr.masks",
        "Outcome": "pyattr.verification",
        "ProtocolError": "pyattr.errors",
        "Prover": "pyattr.protocol",
        "Rejected": "pyattr.errors",
        "StarDesign": "pyattr.verification",
        "SufficientStatistics": "pyattr.attribution",
        "Verdict": "pyattr.verification",
        "Verifier": "pyattr.protocol",
        "empirical_influence": "pyattr.attribution",
        "fit_datamodel": "pyattr.attribution",
        "fit_statistics": "pyattr.attribution",
        "get_include": "pyattr.include_dir",
        "leave_one_out": "pyattr.attribution",
        "load_attribution": "pyattr.attribution",
        "margins": "pyattr.kernels",
        "plan": "pyattr.planning",
        "retrain_with": "pyattr.retraining.retrain",
        "sample_masks": "pyattr.masks",
        "sample_seeds": "pyattr.masks",
        "verify": "pyattr.verification",
        "verify_recorded": "pyattr.verification",
    }
)
_SUBMODULES: Final = frozenset(
    {
        "attribution",
        "augmentation",
        "datasets",
        "demo",
        "errors",
        "interchange",
        "jobs",
        "kernels",
        "masks",
        "planning",
        "plots",
        "protocol",
        "reference",
        "retraining",
        "transport",
        "verification",
    }
)

logging.getLogger(__name__).addHandler(logging.NullHandler())

if not TYPE_CHECKING:  # a type checker that saw it would let any name pass

    def __getattr__(name: str) -> Any:
        """Import a public name, or a submodule, when it is first asked for (PEP 562)."""
        if name in _HOMES:
            value = getattr(importlib.import_module(_HOMES[name]), name)
        elif name in _SUBMODULES:
            value = importlib.import_module(f"{__name__}.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})  # no submodule: some need packages that may be missing
