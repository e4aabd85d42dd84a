"""`pyattr calibrate`: how far two honest parties' outputs lie apart.

Each party runs `pyattr calibrate run` with the agreed options and sends the file to the other; each then
runs `pyattr calibrate compare`, and both find the same record for the manifest.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pyattr.commands.failure import Group
from pyattr.commands.keys import called
from pyattr.commands.options import FILE, job_of, job_options, json_option
from pyattr.commands.output import answer

if TYPE_CHECKING:
    from pyattr.protocol.calibration import Calibration

__all__ = ["calibrate"]


@click.group("calibrate", cls=Group)
def calibrate() -> None:
    """Find the tolerance of a session between unlike machines.

    On machines of one platform class outputs are equal to the byte, and no tolerance is needed.

    \b
    Example:
      pyattr calibrate run --model mlp --clip 20 ours.safetensors
      pyattr calibrate compare ours.safetensors theirs.safetensors
    """


@calibrate.command("run")
@job_options
@click.option(
    "--p",
    type=float,
    default=0.5,
    show_default=True,
    help="Probability that a subset holds an example.",
)
@click.option(
    "--clip", type=float, required=True, help="b of the session: outputs are clipped to [-b, b]."
)
@click.option("--n-rows", type=int, default=256, show_default=True, help="Masks to train.")
@click.option(
    "--replay-seed",
    type=int,
    default=0,
    show_default=True,
    help="Of the masks; public, and the same on both sides.",
)
@json_option
@click.argument("out", type=click.Path(dir_okay=False, path_type=Path))
def run_command(
    out: Path, p: float, clip: float, n_rows: int, replay_seed: int, **job: Any
) -> None:
    """Train the public rows and write the outputs to OUT.

    The options have to be the same on both sides.

    \b
    Example:
      pyattr calibrate run --model mlp --clip 20 ours.safetensors
    """
    from pyattr.protocol.calibration import replay

    described = job_of(**job)
    sizes = (described.n_train, described.n_targets)
    made = replay(described.retrain, *sizes, p=p, clip=clip, n_rows=n_rows, seed=replay_seed)
    made.save(out)
    trained = made.terms.n_rows + made.terms.n_repeats
    words = f"{trained} trainings of {described.n_targets} targets in {out}, digest {made.digest}"
    record = {"file": out, "digest": made.digest, "n_trainings": trained}
    answer("pyattr-calibrate-run/1", record | {"n_targets": described.n_targets}, words)


@calibrate.command("compare")
@click.option(
    "--n-checks",
    type=int,
    default=100,
    show_default=True,
    help="Spot checks that it has to be good for.",
)
@click.option(
    "--alarm",
    type=float,
    default=0.05,
    show_default=True,
    help="Probability of a false alarm in all of them.",
)
@json_option
@click.argument("ours", type=FILE)
@click.argument("theirs", type=FILE)
def compare_command(ours: Path, theirs: Path, n_checks: int, alarm: float) -> None:
    """Find the tolerance from two replays, OURS and THEIRS.

    Fails where no tolerance is defensible, and says what to do. The order of the files makes no
    difference. What --json prints goes into a file for `pyattr session init --calibration`.

    \b
    Example:
      pyattr calibrate compare --json ours.safetensors theirs.safetensors > calibration.json
    """
    import msgspec

    from pyattr.protocol import calibration

    pair = []
    for file in (ours, theirs):
        with called(str(file), "replay"):
            pair.append(calibration.Replay.load(file))
    found = calibration.calibrate(*pair, n_checks=n_checks, alarm=alarm)
    answer("pyattr-calibration/1", msgspec.to_builtins(found), _in_words(found))


def _in_words(found: Calibration) -> str:
    """What was found, in a sentence or two."""
    if found.tolerance == 0.0:
        return f"All bytes of {found.terms.n_rows} rows are equal: tolerance 0."
    return (
        f"Tolerance {found.tolerance:.3g}: {found.factor:.3g} times the largest difference of "
        f"{found.terms.n_rows} rows, {found.tolerance / found.smallest_sd:.2g} of the smallest standard "
        f"deviation over seeds. Of {found.n_checks} honest spot checks one exceeds it with "
        f"probability at most {found.alarm:g}."
    )
