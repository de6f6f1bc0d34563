"""Drives every cell of a state table through an SDK: the engine that both dialects' tables share.

A cell is an operation on a key in a state. What it does is compared with the table: success, or error code,
HTTP status and message; and the key's state afterwards. Keys are made by the API itself. Cells that can share a
key do, one after the other, and each leaves the key as it found it; different keys run in parallel.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from drivers import Answer, Kms
from harness import ApiError, Mismatch, Report, described, equal, in_parallel, refused

STATES = ("Enabled", "Disabled", "PendingDeletion", "PendingImport")
THREADS = 16
CELLS_A_KEY = 8
# How long a changed state may take to reach the cryptographic operations (design, section 5).
STATE_LAG_SECONDS = 1.0
PLAINTEXT = b"attack at dawn"


@dataclass
class Key:
    """A key, and what was got from it while it was Enabled."""

    id: str
    arn: str
    external: bool
    material: bytes = field(default_factory=lambda: os.urandom(32), repr=False)
    ciphertext: object = None
    version_id: str = ""
    # Parameters of ImportKeyMaterial; the token stays good in every state.
    import_parameters: dict[str, object] = field(default_factory=dict, repr=False)
    # What a row's `prepare` leaves for its `act`.
    alias: str = ""


class Stage:
    """Makes keys in a state. A dialect's own ways are its subclass's."""

    # How CreateAlias and UpdateAlias name the parameter for the key.
    alias_target: str

    def __init__(self, kms: Kms) -> None:
        self.kms = kms
        self._lock = threading.Lock()
        self._other: Key | None = None

    # What differs between the dialects.
    def create(self, external: bool) -> Key:
        raise NotImplementedError

    def fetch_import_parameters(self, key: Key) -> dict[str, object]:
        raise NotImplementedError

    def encrypt(self, key: Key) -> Answer:
        raise NotImplementedError

    def delete_material(self, key: Key) -> None:
        raise NotImplementedError

    # What does not.
    def other(self) -> Key:
        """An Enabled key beside the one that a cell is about."""
        with self._lock:
            if self._other is None:
                self._other = self.in_state("Enabled", external=False)
            return self._other

    def new_alias(self, key: Key) -> str:
        alias = f"alias/states-{uuid.uuid4().hex[:12]}"
        self.kms.call("CreateAlias", AliasName=alias, **{self.alias_target: key.id})
        return alias

    def state(self, key: Key) -> str:
        return self.kms.call("DescribeKey", KeyId=key.id)["KeyMetadata"]["KeyState"]

    def import_material(self, key: Key) -> None:
        self.kms.call("ImportKeyMaterial", KeyId=key.id, **key.import_parameters)

    def in_state(self, state: str, external: bool, prepare: Callable[[Stage, Key], None] | None = None) -> Key:
        key = self.create(external)
        if external:
            key.import_parameters = self.fetch_import_parameters(key)
            self.import_material(key)
        equal(f"the state of the new key {key.id}", self.state(key), "Enabled")
        sealed = self.encrypt(key)
        key.ciphertext, key.version_id = sealed["CiphertextBlob"], sealed.get("KeyVersionId", "")
        if prepare:
            prepare(self, key)
        self.bring(key, state)
        return key

    def bring(self, key: Key, wanted: str) -> None:
        """Brings a key to a state, by the calls that the API has for it."""
        steps = []
        while (now := self.state(key)) != wanted:
            steps.append(now)
            if len(steps) > 4:
                raise Mismatch(f"key {key.id} does not become {wanted}; it went through {', '.join(steps)}")
            self._step(key, now, wanted)

    def _step(self, key: Key, now: str, wanted: str) -> None:
        if now == "PendingDeletion":
            self.kms.call("CancelKeyDeletion", KeyId=key.id)
        elif wanted == "PendingImport":
            self.delete_material(key)
        elif now == "PendingImport":
            self.import_material(key)
        elif wanted == "PendingDeletion":
            self.kms.call("ScheduleKeyDeletion", KeyId=key.id, PendingWindowInDays=7)
        else:
            self.kms.call("EnableKey" if wanted == "Enabled" else "DisableKey", KeyId=key.id)


@dataclass(frozen=True)
class Refusal:
    """`message` may have {arn} in it. None: any text."""

    code: str
    status: int
    message: str | None = None


# None: the operation succeeds.
Outcome = Refusal | None
OK: Outcome = None


@dataclass(frozen=True)
class Row:
    """One operation, and its outcome in each state."""

    name: str
    act: Callable[[Stage, Key], object]
    outcomes: dict[str, Outcome]
    # The states in which a success may leave the key, by the state before. Not named: the same state.
    after: dict[str, tuple[str, ...]] = field(default_factory=dict)
    # Undoes a success, as far as the state does not show it.
    undo: Callable[[Stage, Key], None] | None = None
    # On the cell's own key, while that is Enabled.
    prepare: Callable[[Stage, Key], None] | None = None
    # Only keys of origin EXTERNAL; a PendingImport key always is one.
    external: bool = False
    # The cell leaves more than a state behind.
    own_key: bool = False
    # It changes nothing, so it may be asked again while a changed state spreads.
    repeatable: bool = False


def row(outcomes: Sequence[Outcome]) -> dict[str, Outcome]:
    return dict(zip(STATES, outcomes, strict=True))


@dataclass(frozen=True)
class Cell:
    row: Row
    state: str

    @property
    def external(self) -> bool:
        return self.row.external or self.state == "PendingImport"

    @property
    def name(self) -> str:
        return f"{self.row.name} on {'an EXTERNAL' if self.external else 'a generated'} key that is {self.state}"


def groups(rows: Sequence[Row]) -> Iterator[list[Cell]]:
    """All cells, in groups that share a key."""
    shared: dict[tuple[bool, str], list[Cell]] = {}
    for each in rows:
        for state in each.outcomes:
            cell = Cell(each, state)
            if each.own_key or each.prepare:
                yield [cell]
            else:
                shared.setdefault((cell.external, state), []).append(cell)
    for cells in shared.values():
        for start in range(0, len(cells), CELLS_A_KEY):
            yield cells[start : start + CELLS_A_KEY]


class Run:
    """One table, through one SDK."""

    def __init__(self, stage: Stage, rows: Sequence[Row], report: Report) -> None:
        self._stage, self._rows, self._report = stage, rows, report
        self._lags: list[float] = []

    def tasks(self) -> list[Callable[[], None]]:
        return [lambda cells=cells: self._play(cells) for cells in groups(self._rows)]

    def _play(self, cells: list[Cell]) -> None:
        first = cells[0]
        key: Key | None = None
        for cell in cells:
            try:
                if key is None:
                    key = self._stage.in_state(first.state, first.external, first.row.prepare)
                self._stage.bring(key, cell.state)
            except Exception as error:  # reported for each cell that can't be played
                what = "its key could not be made" if key is None else f"its key {key.id} could not be brought there"
                self._report.failed(cell.name, Mismatch(f"not played: {what}: {described(error)}"))
                continue
            self._report.run(f"{cell.name} ({key.id})", lambda cell=cell, key=key: self._check(cell, key))

    def _check(self, cell: Cell, key: Key) -> None:
        started = time.monotonic()
        late = False
        while True:
            try:
                self._act(cell, key)
                break
            except Mismatch:
                if not cell.row.repeatable or time.monotonic() - started > STATE_LAG_SECONDS:
                    raise
                late = True
            time.sleep(0.05)
        if late:
            self._lags.append(time.monotonic() - started)
        allowed = (
            cell.row.after.get(cell.state, (cell.state,)) if cell.row.outcomes[cell.state] is OK else (cell.state,)
        )
        now = self._stage.state(key)
        if now not in allowed:
            raise Mismatch(f"afterwards the key is {now}, wanted {' or '.join(allowed)}")

    def _act(self, cell: Cell, key: Key) -> None:
        outcome = cell.row.outcomes[cell.state]
        if isinstance(outcome, Refusal):
            message = outcome.message and outcome.message.format(arn=key.arn)
            refused(lambda: cell.row.act(self._stage, key), outcome.code, outcome.status, message)
            return
        try:
            cell.row.act(self._stage, key)
        except ApiError as error:
            raise Mismatch(f"got {error.status} {error.code} ({error.message!r}), wanted success") from error
        if cell.row.undo:
            cell.row.undo(self._stage, key)

    def note_lags(self) -> None:
        if self._lags:
            lag = f"{len(self._lags)} cells, at most {max(self._lags) * 1000:.0f} ms"
            self._report.note(f"the state had not reached the cryptographic operation at once: {lag}")


def play(name: str, tables: Sequence[tuple[Stage, Sequence[Row]]]) -> int:
    """Plays each table through its SDK, all of them at once, and gives the exit status."""
    reports = [Report(f"{name}, {stage.kms.name}", "cells") for stage, _ in tables]
    runs = [Run(stage, rows, report) for (stage, rows), report in zip(tables, reports, strict=True)]
    in_parallel(THREADS, [task for run in runs for task in run.tasks()])
    for run in runs:
        run.note_lags()
    return max(report.finish() for report in reports)
