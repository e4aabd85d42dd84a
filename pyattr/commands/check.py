"""`pyattr check`: verify published scores with a job's own models, and keep the verdict."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from pyattr.commands.failure import Command
from pyattr.commands.options import EXIT_CODES, FILE, VERDICT, json_option
from pyattr.commands.output import answer, say, stages
from pyattr.errors import bad_value

if TYPE_CHECKING:
    from pyattr.jobs import Job

__all__ = ["check_command"]

_INTERRUPTED: Final = "Interrupted; what was trained is kept, and the same command goes on."


@click.command("check", cls=Command, interrupted=_INTERRUPTED)
@click.argument("job_file", metavar="JOB.toml", type=FILE)
@click.option("--attribution", type=FILE, help="Published scores; else the job's own.")
@click.option("--sum", "of_sum", is_flag=True, help="Verify the mean of the targets alone.")
@click.option("--weights", type=FILE, help="CSV: verify the sum with these weights.")
@click.option(
    "--epsilon",
    type=float,
    default=0.05,
    show_default=True,
    help="Largest gap accepted, as a share of Var f.",
)
@click.option(
    "--delta",
    type=float,
    default=0.05,
    show_default=True,
    help="Probability of a false ACCEPT, at most.",
)
@click.option(
    "--bound",
    default="chi2",
    show_default=True,
    help="Confidence bound, as for pyattr.verify: chi2, proof, …",
)
@click.option(
    "--clip", type=float, help="b: outputs are clipped to [-b, b], which some bounds need."
)
@click.option(
    "--nonlinearity",
    type=float,
    default=0.02,
    show_default=True,
    help="Share of Var f that is odd and not linear.",
)
@click.option(
    "--simultaneous", is_flag=True, help="Upper limits that hold for all targets at once."
)
@click.option("--budget", type=int, help="Most trainings; else as many as honest scores need.")
@click.option("--seed", type=int, help="Of the challenge: a secret of the verifier; else drawn.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Where the verdict goes, .json; else verdict.json beside the scores.",
)
@json_option
def check_command(
    job_file: Path,
    attribution: Path | None,
    of_sum: bool,
    weights: Path | None,
    seed: int | None,
    out: Path | None,
    **options: Any,
) -> None:
    """Verify scores with models of your own, trained as a job file says.

    The verdict is kept beside the scores, where `pyattr price`, `pyattr select` and `pyattr report`
    find it. Trainings are kept until it is there: after an interruption the same command goes on.
    Exits with 0 for ACCEPT, 1 for ABORT, 2 for INCONCLUSIVE, 3 for an error.

    \b
    Example:
      pyattr check job.toml --attribution scores.safetensors --sum
    """
    import msgspec

    from pyattr import jobs
    from pyattr.attribution import load_attribution
    from pyattr.uses import files

    job = jobs.load_job(job_file)
    published = attribution or _own_scores(job)
    kept = out or published.with_name(VERDICT)
    if kept.is_dir() or not kept.absolute().parent.is_dir():
        raise bad_value("out", "a file in a folder that exists", kept)
    if kept.suffix != ".json":  # so that no scores or job file is replaced by it
        raise bad_value("out", "a name that ends in .json", kept)
    scores = load_attribution(published)
    chosen = None if weights is None else files.read_weights(weights, scores.n_targets)
    summed = of_sum or chosen is not None
    if summed and chosen is None:
        from pyattr.uses.values import target_weights

        chosen = target_weights(None, scores.n_targets)
    check = jobs.Check(job, scores, chosen, seed, options)
    with stages() as tell:
        certificate = check.run(kept, partial(tell, "train"), say)
    record = {"file": kept, **msgspec.to_builtins(certificate)}
    answer("pyattr-check/1", record, f"{certificate.outcome}: {certificate.reason}")
    say(f"{certificate.n_retrained:,} trainings; the verdict is in {kept}.")
    sys.exit(EXIT_CODES[certificate.outcome])


def _own_scores(job: Job) -> Path:
    file = job.out_folder / "attribution.safetensors"
    if not file.is_file():
        expected = "scores to verify: run `pyattr attribute` first, or name them"
        raise bad_value("attribution", expected, f"no {file}")
    return file
