"""`pyattr price` and `pyattr select`: what verified scores are for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from pyattr.commands import failure
from pyattr.commands.options import FILE, VERDICT, json_option, one_line
from pyattr.commands.output import answer, say, stages
from pyattr.errors import bad_value

if TYPE_CHECKING:
    from pyattr.attribution import Attribution
    from pyattr.uses import Certificate, Measured, Selection

__all__ = ["price_command", "select_command"]

Command = TypeVar("Command", bound=Callable[..., Any])

_OUT: Final = click.Path(dir_okay=False, path_type=Path)
_PLACE = click.Path(exists=True, path_type=Path)
_COMMON = (
    click.option("--sellers", type=FILE, help="CSV: who owns which example."),
    click.option("--weights", type=FILE, help="CSV: of targets; else as verified, or equal."),
    click.option(
        "--verdict",
        type=_PLACE,
        help="Of `pyattr check`, or a session's folder; else verdict.json beside SCORES.",
    ),
    click.option("--unverified", is_flag=True, help="Use scores that nobody accepted."),
)
_SCORES = click.argument("attribution", metavar="SCORES", type=FILE)


def _common(command: Command) -> Command:
    for option in reversed(_COMMON):
        command = option(command)
    return command


@click.command("price", cls=failure.Command)
@_SCORES
@click.option("--budget", type=float, required=True, help="Money for all sellers.")
@click.option(
    "--rule",
    type=click.Choice(["proportional", "price", "signed"]),
    metavar="RULE",
    default="proportional",
    show_default=True,
    help="proportional: to positive scores; price: so much a point; signed: harm is owed.",
)
@click.option("--unit-price", type=float, help="Money for a point, with --rule price.")
@_common
@click.option("--lies", is_flag=True, help="Show what lies would have cost each seller.")
@click.option("--out", type=_OUT, help="Write .csv (sellers) or .json (everything).")
@click.option("--examples", type=_OUT, help="Write .csv of each example's payment.")
@json_option
def price_command(
    attribution: Path,
    verdict: Path | None,
    unverified: bool,
    sellers: Path | None,
    weights: Path | None,
    lies: bool,
    out: Path | None,
    examples: Path | None,
    **options: Any,
) -> None:
    """Pay sellers by verified scores.

    Each payment comes with limits: what the best linear attribution would pay lies between them.

    \b
    Example:
      pyattr price attribution/attribution.safetensors \\
        --budget 1000 --sellers owners.csv --out pay.csv
    """
    from rich.console import Group

    from pyattr.uses import files, lie_costs, price, table

    _check_ends(out=out, examples=examples)
    scores, certificate = _read(attribution, verdict, unverified)
    with _told_how_to_allow():
        payments = price(
            scores,
            verdict=certificate,
            allow_unverified=unverified,
            owners=None if sellers is None else files.read_owners(sellers, scores.n_train),
            weights=None if weights is None else files.read_weights(weights, scores.n_targets),
            **options,
        )
    costs = lie_costs(scores, payments) if lies else None
    record = files.payments_record(payments, costs)
    if out is not None:
        _write(out, record, files.payments_csv(payments))
    if examples is not None:
        files.write_text(examples, files.examples_csv(payments))
    words = [table.payments_table(payments)]
    if costs is not None:
        words.append(table.lies_table(costs, payments))
    answer("pyattr-price/1", record, Group(*words))


@click.command("select", cls=failure.Command)
@_SCORES
@click.option("--n-selected", "-n", type=int, required=True, help="How many examples, or sellers.")
@_common
@click.option("--job", type=FILE, help="Job file: train on the selection, and measure.")
@click.option(
    "--repeats", type=int, default=8, show_default=True, help="Models trained on the selection."
)
@click.option(
    "--random", type=int, default=64, show_default=True, help="Models trained on random choices."
)
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Of these trainings and choices."
)
@click.option("--out", type=_OUT, help="Write .csv (examples) or .json (everything).")
@json_option
def select_command(
    attribution: Path,
    verdict: Path | None,
    unverified: bool,
    sellers: Path | None,
    weights: Path | None,
    n_selected: int,
    job: Path | None,
    out: Path | None,
    **options: Any,
) -> None:
    """Choose examples, or sellers, by verified scores.

    Says what the scores promise and, with --job, what models trained on the choice gain over models
    trained on random choices of the same size.

    \b
    Example:
      pyattr select attribution/attribution.safetensors -n 100 --job job.toml
    """
    from pyattr.uses import files, select, table

    _check_ends(out=out)
    scores, certificate = _read(attribution, verdict, unverified)
    with _told_how_to_allow():
        selection = select(
            scores,
            n_selected,
            verdict=certificate,
            allow_unverified=unverified,
            owners=None if sellers is None else files.read_owners(sellers, scores.n_train),
            weights=None if weights is None else files.read_weights(weights, scores.n_targets),
        )
    measured = None if job is None else _measured(job, selection, **options)
    record = files.selection_record(selection, measured)
    if out is not None:
        _write(out, record, files.selection_csv(selection))
    answer("pyattr-select/1", record, table.selection_table(selection, measured))


def _measured(job_file: Path, selection: Selection, **options: Any) -> Measured:
    from pyattr import jobs
    from pyattr.uses import measure_selection

    retrain = jobs.Source(jobs.load_job(job_file))()
    wanted = len(selection.sellers.of), selection.basis.weights.size
    if (retrain.n_train, retrain.n_targets) != wanted:
        expected = f"{wanted[0]} examples and {wanted[1]} targets, as the scores have"
        raise bad_value("job", expected, f"{retrain.n_train} and {retrain.n_targets}")
    n_repeats, n_random = options.pop("repeats"), options.pop("random")
    with stages() as tell:
        return measure_selection(
            retrain,
            selection,
            n_repeats=n_repeats,
            n_random=n_random,
            progress=partial(tell, "train"),
            **options,
        )


def _read(
    attribution: Path, verdict: Path | None, unverified: bool
) -> tuple[Attribution, Certificate | None]:
    """The scores, and the verdict that was named or lies beside them."""
    from pyattr.attribution import load_attribution
    from pyattr.uses import certificate_of_session, load_certificate

    scores = load_attribution(attribution)
    if verdict is None:
        return scores, _found(attribution.with_name(VERDICT), scores, unverified)
    return scores, (certificate_of_session if verdict.is_dir() else load_certificate)(verdict)


def _found(file: Path, scores: Attribution, unverified: bool) -> Certificate | None:
    """The verdict that lies beside the scores.

    Nobody named it, so one that is none, or about other scores, does not stand in the way of whoever asked
    for unverified scores anyway. It is said, since they may have meant to use it.
    """
    from pyattr.uses import load_certificate
    from pyattr.uses.certificate import why_not_about

    if not file.is_file():
        return None
    try:
        certificate = load_certificate(file)
        if doubt := why_not_about(certificate, scores):
            raise bad_value("verdict", "one about these very scores", f"{file}, {doubt}")
    except (ValueError, OSError) as error:
        if unverified:
            say(f"Not used: {one_line(error).partition(', got ')[2]}.")
            return None
        advice = "name another by --verdict, or --unverified uses the scores without"
        raise ValueError(f"{one_line(error)}; {advice}") from error
    # Scores may have come with it, from whoever is to be verified.
    say(f"By {file}, which is not signed: it is worth what whoever made it is worth.")
    return certificate


@contextmanager
def _told_how_to_allow() -> Iterator[None]:
    """Name the option that takes unverified scores."""
    try:
        yield
    except ValueError as error:
        if not str(error).startswith("verdict: "):
            raise
        advice = "`pyattr check` makes a verdict, --unverified allows them"
        raise ValueError(f"{error}; {advice}") from error


def _check_ends(**files: Path | None) -> None:
    """Refuse names of files before anything is read or trained."""
    for name, file in files.items():
        ends = (".csv",) if name == "examples" else (".csv", ".json")
        if file is not None and file.suffix not in ends:
            raise bad_value(name, f"a name that ends in {' or '.join(ends)}", file)
        if file is not None and not file.absolute().parent.is_dir():
            raise bad_value(name, "a file in a folder that exists", file)


def _write(out: Path, record: dict[str, Any], text: str) -> None:
    from pyattr.uses import files

    if out.suffix == ".json":
        files.write_json(out, record)
    else:
        files.write_text(out, text)
