"""Names → a :class:`ModelSession`: model, tokenizer and lock.

Patterns are read where they are made: an attention function of our own, registered with
transformers' ``AttentionInterface``, computes exactly what the model's eager attention does and
hands each layer's pattern to an observer before the next layer runs. Reading through
``TransformerBridge`` hooks gives the same numbers and costs half a forward pass more. The first
reading of every model is checked against plain transformers, and once on a machine against the
Bridge: a model whose patterns differ is refused by name.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attn.config import settings
from attn.errors import ContextTooLong, HeadError, IndexMismatch, ModelError
from attn.heads import HeadId
from attn.models import checks, hooks, interface, pretrained
from attn.models.anatomy import Anatomy, find_anatomy
from attn.models.bridge import Compared, boot
from attn.models.interface import Change, Inputs, Observer, Reading, Stop, Watch
from attn.models.text import TextEncoder

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class ModelSession(TextEncoder):
    """A model on its device, its tokenizer, and the one lock around every use of it.

    Made by :func:`load_model`. Safe to share between threads: forward passes take turns.

    ``name`` as it was asked for; ``revision`` the commit of a Hub model or ""; ``n_layers``,
    ``n_heads``, ``n_ctx`` (tokens); ``bidirectional`` whether rows see later positions;
    ``without_attention`` the layers of a hybrid model that have none; ``hf`` the Hugging Face
    model.
    """

    def __init__(
        self, hf: Any, tokenizer: Any, *, name: str, device: str, dtype: str, revision: str = ""
    ) -> None:
        config = hf.config.get_text_config()
        self.hf, self.tokenizer, self.name = hf.eval(), tokenizer, name
        self.device, self.dtype, self.revision = device, dtype, revision
        try:
            self.n_layers = int(config.num_hidden_layers)
            self.n_heads = int(config.num_attention_heads)
        except (AttributeError, TypeError) as error:  # Mamba has no such value, OpenELM has a list
            raise ModelError(
                f"{name} ({config.model_type}) has no attention heads, or not the same number in "
                f"every layer: choose another model."
            ) from error
        self.n_vocab = int(config.vocab_size)
        self.n_ctx = pretrained.context_length(hf, tokenizer)
        self.bidirectional = False
        self.without_attention: tuple[int, ...] = ()
        self._lock = threading.RLock()
        self._iterating: int | None = None  # changed with the next held
        self._reading = threading.Lock()
        self._visible: dict[int, dict[int, Tensor]] = {}
        self._watch = Watch(name, values=self._values)
        self._install()
        super().__init__(tokenizer, name, self.bidirectional)

    @cached_property
    def bridge(self) -> Any:
        """The TransformerBridge on the same weights, booted when it is first asked for."""
        with pretrained.quiet():
            return boot(self.hf, self.tokenizer, self.name, self.device, DTYPES[self.dtype])

    @cached_property
    def weights(self) -> str:
        """SHA-256 (hex) over all weights as loaded: names, types, shapes and bytes."""
        digest = hashlib.sha256()
        for key, tensor in sorted(self.hf.base_model.state_dict().items()):
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(memoryview(flat.numpy()))
        return digest.hexdigest()

    def observe(
        self,
        ids: Tensor | np.ndarray | Sequence[Sequence[int]],
        observer: Observer,
        layers: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
        norms: bool = False,
    ) -> None:
        """Run the model and pass each layer's :class:`Reading` to ``observer``, in layer order.

        ``ids`` (batch, position) integers, shorter sequences padded on the right with any id;
        ``lengths`` (batch,) their real lengths, which a bidirectional model needs; ``norms`` gives
        each reading its norms. No layer above the last one asked for is run. The observer must not
        keep the pattern, nor call this session again. Raises :class:`ContextTooLong`,
        :class:`ModelError` for ids that the vocabulary lacks.
        """
        batch = self._batch(ids)
        wanted = frozenset(range(self.n_layers) if layers is None else layers)
        if not wanted:
            return
        if min(wanted) < 0 or max(wanted) >= self.n_layers:
            raise ModelError(f"{self.name} has layers 0 to {self.n_layers - 1}.")
        inputs: dict[str, Any] = {"input_ids": batch}
        if self.bidirectional and lengths is not None:
            position = torch.arange(batch.shape[1], device=self.device)
            ends = torch.as_tensor(list(lengths), device=self.device)
            inputs["attention_mask"] = (position[None] < ends[:, None]).long()
        seen: dict[int, Tensor] = {}

        def watcher(reading: Reading) -> None:
            seen[reading.layer] = reading.visible[0]
            observer(reading)

        with self.held(), torch.no_grad():
            self._watch.observer, self._watch.layers = watcher, wanted
            self._watch.last = max(wanted)
            self._watch.grams = self._grams if norms else None
            try:
                self.hf.base_model(**inputs, use_cache=False)
            except Stop:
                pass
            finally:
                self._watch.observer = self._watch.seen = None
        if lengths is None and len(seen) + len(self.without_attention) == self.n_layers:
            self._visible[batch.shape[1]] = {k: v.cpu() for k, v in seen.items()}

    def run_whole(
        self,
        ids: Tensor | np.ndarray | Sequence[Sequence[int]],
        observer: Observer | None = None,
        *,
        inputs: Callable[[Inputs], None] | None = None,
        change: Change | None = None,
        last: int | None = None,
        grad: bool = False,
        values: bool = False,
    ) -> Any:
        """Run all of the model, the unembedding too, and return what it gives, ``logits`` with it.

        ``ids`` (batch, position); ``observer`` gets every layer's reading, ``inputs`` what its
        attention computes with, ``change`` gives other patterns; ``last`` the layer after whose
        attention the pass ends, returning None; ``grad`` whether torch keeps what a backward pass
        needs; ``values`` gives each reading its values. Raises as :meth:`observe`.
        """
        batch = self._batch(ids)
        with self.using(
            observer, inputs=inputs, change=change, last=last, grad=grad, values=values
        ):
            try:
                return self.hf(input_ids=batch, use_cache=False)
            except Stop:
                return None

    @contextmanager
    def using(
        self,
        observer: Observer | None = None,
        *,
        inputs: Callable[[Inputs], None] | None = None,
        change: Change | None = None,
        last: int | None = None,
        grad: bool = False,
        values: bool = False,
    ) -> Iterator[None]:
        """Hold the model while modules of :attr:`hf` are called by hand; as :meth:`run_whole`."""
        with self.held(), torch.set_grad_enabled(grad):
            watch = self._watch
            watch.observer, watch.inputs, watch.change = observer, inputs, change
            watch.layers, watch.grams = frozenset(range(self.n_layers)), None
            watch.last = self.n_layers if last is None else last
            watch.shows_values = values
            try:
                yield
            finally:
                watch.observer = watch.inputs = watch.change = watch.seen = None
                watch.shows_values = False

    def patterns(
        self,
        ids: Tensor | np.ndarray | Sequence[Sequence[int]],
        layers: Sequence[int] | None = None,
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield ``(layer, pattern)`` for one layer after the other, keeping none.

        ``ids`` (batch, position); pattern (batch, head, dst, src) float32 on the model's device.
        The next layer runs when the next pattern is asked for; the session is busy until the
        iterator ends or is closed.
        """
        self._batch(ids)  # bad input fails here, not at the first iteration
        return self._patterns(ids, layers)

    def _patterns(self, ids: Any, layers: Sequence[int] | None) -> Iterator[tuple[int, Tensor]]:
        """Run a forward pass in its own thread, which waits for the reader after each layer."""
        ready, go = threading.Semaphore(0), threading.Semaphore(0)
        box: list[Reading | BaseException | None] = []
        closed = False

        def hand_over(reading: Reading) -> None:
            box.append(reading)
            ready.release()
            go.acquire()
            if closed:
                raise Stop

        def work() -> None:
            try:
                self.observe(ids, hand_over, layers)
                box.append(None)
            except BaseException as error:
                box.append(error)
            ready.release()

        self._refuse_reentry()
        worker = threading.Thread(target=work, name="attn-patterns", daemon=True)
        reader = threading.get_ident()
        worker.start()
        try:
            while True:
                ready.acquire()
                item = box.pop()
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                with self._reading:  # the worker holds the session while it waits
                    self._iterating = reader
                yield item.layer, item.pattern
                del item
                go.release()
        finally:
            closed = True
            with self._reading:  # another reader may hold the session by now
                if self._iterating == reader:
                    self._iterating = None
            go.release()
            worker.join()

    def pattern(self, ids: Tensor | np.ndarray | Sequence[int], head: HeadId) -> Tensor:
        """(dst, src) float32: one head's pattern on one sequence of ids (position,).

        Runs no layer above the head's. Raises :class:`HeadError` for a head the model lacks, or in
        a layer that has no attention.
        """
        head.check(self.n_layers, self.n_heads)
        self.need_attention(head.layer)
        kept: list[Tensor] = []
        self.observe(
            torch.as_tensor(ids)[None],
            lambda reading: kept.append(reading.pattern[0, head.head].clone()),
            layers=[head.layer],
        )
        return kept[0]

    def need_weights(self, weights: str) -> None:
        """Raise IndexMismatch unless these are the weights that an index was made with."""
        if self.weights != weights:
            raise IndexMismatch(
                f"The index was made with other weights of {self.name} than those on this machine: "
                f"scan again, or choose another index."
            )

    def visible(self, layer: int, n: int) -> Tensor:
        """(dst,) int64: how many sources each row of a sequence of ``n`` tokens sees in a layer.

        Raises :class:`HeadError` for a layer without attention.
        """
        HeadId(layer, 0).check(self.n_layers, self.n_heads)
        self.need_attention(layer)
        if n not in self._visible:
            self.observe(torch.zeros((1, n), dtype=torch.int64), lambda reading: None)
        return self._visible[n][layer]

    def need_attention(self, layer: int) -> None:
        """Raise :class:`HeadError` for a layer that has no attention."""
        if layer in self.without_attention:
            raise HeadError(
                f"Layer {layer} of {self.name} has no attention: choose a head of another layer."
            )

    @cached_property
    def anatomy(self) -> Anatomy:
        """Where this model's heads write; :class:`ModelError` where it is no residual stream."""
        return find_anatomy(self)

    @cached_property
    def _grams(self) -> dict[int, Tensor]:
        """Layer → (head, d_head, d_head) float32: ``W_O W_Oᵀ``, a value's write by its square."""
        made: dict[int, Tensor] = {}
        for layer in range(self.n_layers):
            if layer not in self.without_attention:
                w_o = self.bridge.blocks[layer].attn.W_O.detach().float()  # (head, d_head, d_model)
                made[layer] = w_o @ w_o.mT
        return made

    def _values(self, layer: int, hidden: Tensor) -> Tensor:
        """(batch, head, src, d_head): values from what a layer's attention reads."""
        attn = self.bridge.blocks[layer].attn
        w_v, b_v = attn.W_V.to(hidden.dtype), attn.b_V  # (head, d_model, d_head), (head, d_head)
        values: Tensor = hidden[:, None] @ w_v
        return values if b_v is None else values + b_v[:, None].to(hidden.dtype)

    def _batch(self, ids: Any) -> Tensor:
        batch = torch.as_tensor(ids).to(self.device, torch.int64)
        if batch.ndim != 2 or batch.numel() == 0:
            raise ModelError("Token ids come as (batch, position), with at least one token.")
        if batch.shape[1] > self.n_ctx:
            raise ContextTooLong(batch.shape[1], self.n_ctx)
        if int(batch.min()) < 0 or int(batch.max()) >= self.n_vocab:
            raise ModelError(f"Token ids of {self.name} run from 0 to {self.n_vocab - 1}.")
        return batch

    def _refuse_reentry(self) -> None:
        if self._iterating == threading.get_ident():
            raise ModelError("This thread is still reading patterns: close that iterator first.")

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no other thread run the model meanwhile: whoever hooks its modules holds it first."""
        self._refuse_reentry()
        with self._lock:
            yield

    def _install(self) -> None:
        """Make the model show its patterns, and refuse it if a first reading differs."""
        ids = checks.probe(self.hf, self.n_ctx, self.n_vocab).to(self.device)
        readings: dict[int, Reading] = {}
        names = {f"blocks.{layer}.attn.hook_pattern": layer for layer in range(self.n_layers)}

        def keep(reading: Reading) -> None:
            pattern = reading.pattern.cpu()
            readings[reading.layer] = Reading(reading.layer, pattern, reading.visible.cpu())

        theirs: dict[int, Tensor] | None = None
        try:
            compared = Compared(self.weights, self.hf.config, self.device, self.dtype)
            own = checks.own_patterns(self.hf, ids)
            if not interface.install(self.hf, self._watch):
                hooks.install(self.hf, self._watch, self.n_layers)
            with checks.short_windows(self.hf):
                self.observe(ids, keep)
            if not compared:
                with checks.short_windows(self.bridge.original_model), torch.no_grad():
                    _, cache = self.bridge.run_with_cache(ids, names_filter=list(names))
                theirs = {names[n]: cache[n].float().cpu() for n in names if n in cache}
        except ModelError:
            raise
        except torch.OutOfMemoryError as error:
            raise ModelError(
                f"The memory of {self.device} does not hold {self.name}: use another device."
            ) from error
        except Exception as error:  # torch raises many kinds for a model that is not supported
            raise ModelError(
                f"The attention of {self.name} ({self.hf.config.model_type}) cannot be read: "
                f"choose another model."
            ) from error
        self._visible.clear()  # these are of shortened windows
        without = checks.without_attention(self.hf, self.n_layers, readings)
        layers = [layer for layer in range(self.n_layers) if layer not in without]
        self.bidirectional = checks.check(self.name, readings, layers, own, theirs, self.dtype)
        self.without_attention = without
        compared.keep()


def load_model(
    name: str | None = None, device: str = "auto", dtype: str = "float32"
) -> ModelSession:
    """Load a model by name.

    ``name``: ``smollm2-135m`` (built in; the default unless ``ATTN_MODEL`` says otherwise), a
    Hugging Face id with an optional ``@revision``, or a local folder. ``device``: ``auto`` (CUDA,
    then MPS, then CPU) or a torch device. ``dtype``: ``float32``, ``bfloat16`` or ``float16``.
    Raises :class:`ModelError` (:class:`BuiltinMissing` before ``python -m attn fetch``).

    >>> model = attn.load_model("smollm2-135m", device="cpu")
    >>> model.n_layers, model.n_heads
    (30, 9)
    >>> tokens = model.encode("The cat sat. The cat")
    >>> model.pattern(tokens.ids, attn.HeadId(18, 6)).shape == (len(tokens), len(tokens))
    True
    """
    name = name or settings().model
    if dtype not in DTYPES:
        raise ModelError(f"{dtype!r} is not a dtype: choose {', '.join(DTYPES)}.")
    device = pretrained.find_device(device)
    path, revision = pretrained.locate(name)
    with pretrained.quiet():
        hf, tokenizer = pretrained.load(name, path, revision, DTYPES[dtype])
        hf = hf.to(device)
        commit = getattr(hf.config, "_commit_hash", None) or revision or ""
        return ModelSession(
            hf, tokenizer, name=name, device=device, dtype=dtype, revision=str(commit)
        )
