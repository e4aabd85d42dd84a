"""The journal of one side: trainings in the order they were asked for, so that none is lost or repeated.

A side of a session asks for the same trainings in the same order whenever it is made again from the
same secret and gets the same messages. So a list of outputs in that order is all that it takes to go on
after a crash, or to follow a finished session without training anything. Nothing is read or written
here: finished blocks are given, and each new one is handed to a callable that may store it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from pyattr.errors import bad_value, check_count
from pyattr.interface import Retrain
from pyattr.masks import Masks
from pyattr.protocol.hashing import equal, labelled_hash
from pyattr.verification.evaluate import check_outputs

__all__ = ["AnotherSessionError", "Block", "Journal", "NotRecordedError"]

Seeds = npt.NDArray[np.uint64]
Outputs = npt.NDArray[np.float32]

PORTION: Final = 256


class AnotherSessionError(RuntimeError):
    """The journal holds trainings of another session: other masks or seeds at the same place."""


class NotRecordedError(RuntimeError):
    """A training is asked for that the journal does not hold, and there is nothing to train with."""


@dataclass(frozen=True, eq=False)
class Block:
    """Trainings that were finished together.

    Parameters
    ----------
    digest : str
        Of the masks and seeds; see `block_digest`.
    outputs : (n, n_targets) float32
        As trained, before any clip.
    """

    digest: str
    outputs: Outputs


Sink = Callable[[int, Block], None]
"""Called with the number of a new block and the block, before its outputs are used."""


def block_digest(masks: Masks, seeds: Seeds, subject: str = "") -> str:
    """Digest of what is trained: packed masks, their shape, seeds, and of what.

    Parameters
    ----------
    masks : Masks
        (n, n_train).
    seeds : (n,) uint64
    subject : str
        Digest of data and recipe, see `pyattr.protocol.manifest.subject_digest`.
    """
    shape = masks.n_masks.to_bytes(8, "little") + masks.n_train.to_bytes(8, "little")
    words = np.ascontiguousarray(seeds, dtype="<u8")
    packed = masks.packed.tobytes()
    return labelled_hash("trainings/2", subject.encode(), shape, packed, words.tobytes())


class Journal:
    """A `Retrain` that answers from finished blocks, in order, and trains what comes after them.

    After any exception it refuses to go on, since a call that is made a second time would stand in the
    journal twice: make another from the blocks so far. Not for several threads at once.

    Parameters
    ----------
    retrain : Retrain, optional
        Trains what is not recorded. None to follow a finished session.
    blocks : sequence of Block
        Finished trainings, in order.
    sink : callable, optional
        Called as ``sink(number, block)`` with each new block before its outputs are used. What it raises
        ends the call.
    portion : int
        Most rows in a block; even, so that pairs stay together. It must be the same at every replay.
    subject : str
        Digest of data and recipe: blocks of others are refused.

    Attributes
    ----------
    n_train, n_targets : int
        Where `retrain` has them.
    n_trained, n_replayed : int
        Rows trained here, and rows answered from `blocks`.

    Raises
    ------
    ValueError
        If `portion` is not an even number of at least 2.

    Examples
    --------
    >>> from pyattr.masks import sample_masks, sample_seeds
    >>> blocks = []
    >>> first = Journal(
    ...     lambda masks, seeds: masks.sizes()[:, None].astype(np.float32),
    ...     sink=lambda number, block: blocks.append(block),
    ... )
    >>> masks, seeds = sample_masks(600, 10), sample_seeds(600)
    >>> outputs = first(masks, seeds)
    >>> [len(block.outputs) for block in blocks]
    [256, 256, 88]
    >>> again = Journal(None, blocks)
    >>> bool((again(masks, seeds) == outputs).all()), again.n_trained
    (True, 0)
    """

    n_train: int
    n_targets: int

    def __init__(
        self,
        retrain: Retrain | None,
        blocks: Sequence[Block] = (),
        sink: Sink | None = None,
        portion: int = PORTION,
        subject: str = "",
    ) -> None:
        self._portion = check_count("portion", portion, 2)
        if self._portion % 2:
            raise bad_value("portion", "an even number of rows", portion)
        for name in ("n_train", "n_targets"):
            if hasattr(retrain, name):
                setattr(self, name, getattr(retrain, name))
        self._n_targets: int | None = getattr(retrain, "n_targets", None)
        self.n_trained = self.n_replayed = 0
        self._retrain, self._blocks, self._sink = retrain, tuple(blocks), sink
        self._subject, self._next = subject, 0
        self._broken = False

    def __call__(self, masks: Masks, seeds: Seeds, /) -> Outputs:
        """Return one row of outputs a mask; see `Retrain`.

        Raises
        ------
        AnotherSessionError
            If a recorded block in this place is one of other masks or seeds, or of another size.
        NotRecordedError
            If the blocks are used up and there is no `retrain`.
        ValueError
            If `retrain` returns something else than finite outputs, always as many a row.
        RuntimeError
            If an earlier call failed.
        """
        if self._broken:
            raise RuntimeError("journal: expected no failed call so far, got one; make it again")
        self._broken = True
        starts = range(0, max(1, len(masks)), self._portion)
        parts = [
            self._block(masks[a : a + self._portion], seeds[a : a + self._portion]) for a in starts
        ]
        self._broken = False
        return np.concatenate(parts)

    @property
    def n_blocks(self) -> int:
        """Blocks that were asked for so far, recorded ones and new ones."""
        return self._next

    def _block(self, masks: Masks, seeds: Seeds) -> Outputs:
        digest, number = block_digest(masks, seeds, self._subject), self._next
        if number < len(self._blocks):
            block = self._recorded(number, digest, len(masks))
            self.n_replayed += len(masks)
        else:
            block = Block(digest, self._trained(number, masks, seeds))
            if self._sink is not None:
                self._sink(number, block)
            self.n_trained += len(masks)
        self._n_targets = block.outputs.shape[1]
        self._next += 1
        return block.outputs

    def _recorded(self, number: int, digest: str, n_masks: int) -> Block:
        block = self._blocks[number]
        shape = (n_masks, self._n_targets or np.size(block.outputs, 1))
        if not equal(block.digest, digest) or block.outputs.shape != shape:
            raise AnotherSessionError(
                f"journal: expected block {number} to hold outputs {shape} of digest {digest}, got "
                f"{block.outputs.shape} of {block.digest}: it belongs to another session"
            )
        return block

    def _trained(self, number: int, masks: Masks, seeds: Seeds) -> Outputs:
        if self._retrain is None:
            raise NotRecordedError(
                f"journal: expected block {number} to be recorded, got {len(self._blocks)} blocks"
            )
        raw = self._retrain(masks, seeds)
        shape = np.shape(raw)
        n_targets = self._n_targets or (shape[1] if len(shape) == 2 else 1)
        return check_outputs(raw, len(masks), n_targets)
