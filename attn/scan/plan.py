"""What a scan counts and keeps."""

from __future__ import annotations

from dataclasses import dataclass, replace

from attn.errors import ScanError
from attn.models.session import ModelSession
from attn.scan.partials import Limits


@dataclass(frozen=True)
class Plan:
    """What a scan counts and keeps.

    ``ctx`` tokens of a window, special ones included; ``bos`` whether windows have those that the
    tokenizer puts around a text: a BOS, or [CLS] and [SEP] (None: where it has some); ``min_row``
    first row counted; ``top`` pairs that each ranking keeps a head; ``sample`` pairs, and rows,
    kept at random; ``seed`` of the samples; ``skip_first`` leaves the first source, and special
    tokens, out of the lists; ``band`` pairs kept at random of each band of attention; ``per_token``
    pairs kept of each source token, 0 for none; ``write`` whether write scores are kept;
    ``all_windows`` whether the rest of a long document is scanned too, in windows that begin every
    ``stride`` tokens (None: so many that every row counted has ``min_row`` positions before it in
    its window); ``shard`` documents done at a time; ``suffix`` how many special tokens end a
    window, which :meth:`check` finds.
    """

    ctx: int = 128
    bos: bool | None = None
    min_row: int = 10
    top: int = 100
    sample: int = 100
    seed: int = 0
    skip_first: bool = True
    band: int = 40
    per_token: int = 10
    write: bool = False
    all_windows: bool = False
    stride: int | None = None
    shard: int = 64
    suffix: int = 0

    def check(self, session: ModelSession) -> Plan:
        """The plan with its defaults filled in. Raises ScanError if it does not fit the model."""
        if not 2 <= self.ctx <= min(session.n_ctx, 65536):
            raise ScanError(
                f"--ctx {self.ctx} does not fit: {session.name} takes 2 to {session.n_ctx} tokens."
            )
        if self.bos and not (session.prefix or session.suffix):
            raise ScanError(f"The tokenizer of {session.name} has no BOS token: use --no-bos.")
        bos = bool(session.prefix or session.suffix) if self.bos is None else self.bos
        suffix = len(session.suffix) if bos else 0
        room = self.ctx - (len(session.prefix) if bos else 0) - suffix
        if room < 1:
            raise ScanError(f"--ctx {self.ctx} leaves no room beside special tokens: raise it.")
        stride = self.stride
        if stride is None:  # windows that overlap: every row has min_row positions before it
            most = max(1, self.ctx - suffix - self.min_row)
            stride = min(room, most) if self.all_windows else room
        if not 1 <= stride <= room:
            raise ScanError(
                f"--stride is 1 to {room}: a window of {self.ctx} tokens holds so many."
            )
        return replace(self, bos=bos, stride=stride, suffix=suffix)

    def check_numbers(self, skip: int = 0) -> None:
        """Raise ScanError for numbers that no model could fulfil. No model is needed for this."""
        if not 0 <= self.min_row < self.ctx:
            raise ScanError(
                f"--min-row {self.min_row} leaves no row of {self.ctx} tokens: lower it."
            )
        for name in ("top", "sample", "band", "shard"):
            if getattr(self, name) < 1:
                raise ScanError(f"--{name} is at least 1.")
        if self.per_token < 0:
            raise ScanError("--per-token is a whole number from 0.")
        if not 0 <= self.seed < 2**63:
            raise ScanError("--seed is a whole number from 0.")
        if not self.all_windows and self.stride is not None:
            raise ScanError("--stride goes with --windows all.")
        if skip % self.shard:
            raise ScanError(f"--skip is a multiple of --shard, which is {self.shard} documents.")

    @property
    def overlap(self) -> int:
        """Positions, BOS included, that a later window of a document shares with the one before."""
        assert self.stride is not None  # after check
        return self.ctx - self.suffix - self.stride

    @property
    def limits(self) -> Limits:
        """What the lists keep."""
        return Limits(self.top, self.sample, self.band, self.per_token, self.write)
