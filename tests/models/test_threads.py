"""One session, many threads: every pattern equals its single-thread result, bit for bit."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from attn.analyse.why.split import why
from attn.errors import ModelError
from attn.heads import HeadId
from attn.models.session import ModelSession
from tests.conftest import DOCUMENTS, N_CTX, Tiny

CALLS = 300
HEADS = [HeadId(layer, head) for layer in range(2) for head in range(4)]


def together(*jobs: Callable[[], object], seconds: float = 60) -> None:
    """Run jobs in threads of their own; raise what they raise, fail when one hangs."""
    errors: list[BaseException] = []

    def guarded(job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(job,), daemon=True) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    if errors:
        raise errors[0]


def assert_free(session: ModelSession) -> None:
    """The session answers, so nobody holds its lock."""
    together(lambda: session.pattern([1, 2, 3], HeadId(1, 0)), seconds=20)


@pytest.fixture
def prompts(tiny: Tiny) -> list[list[int]]:
    return [tiny.ids(DOCUMENTS[i], ctx=N_CTX) for i in (0, 1, 4, 7)]


def test_two_threads_with_different_prompts(tiny: Tiny, prompts: list[list[int]]) -> None:
    session = tiny.session
    wanted = {
        (which, head): session.pattern(ids, head)
        for which, ids in enumerate(prompts)
        for head in HEADS
    }
    wrong = [0, 0]
    start = threading.Barrier(2)

    def read(thread: int) -> None:
        start.wait()
        for call in range(CALLS):
            which = 2 * (call % 2) + thread
            head = HEADS[call % len(HEADS)]
            wrong[thread] += not torch.equal(
                session.pattern(prompts[which], head), wanted[which, head]
            )

    together(lambda: read(0), lambda: read(1))
    assert wrong == [0, 0]


def test_one_thread_iterates_while_another_asks(tiny: Tiny, prompts: list[list[int]]) -> None:
    session = tiny.session
    layers = {layer: p.clone() for layer, p in session.patterns([prompts[0]])}
    wanted = session.pattern(prompts[1], HEADS[6])
    wrong = [0, 0]

    def iterate() -> None:
        for _ in range(CALLS // 3):
            seen = []
            for layer, pattern in session.patterns([prompts[0]]):
                wrong[0] += not torch.equal(pattern, layers[layer])
                seen.append(layer)
            wrong[0] += seen != [0, 1]

    def ask() -> None:
        for _ in range(CALLS):
            wrong[1] += not torch.equal(session.pattern(prompts[1], HEADS[6]), wanted)

    together(iterate, ask)
    assert wrong == [0, 0]


def test_a_pattern_that_is_kept_does_not_change(tiny: Tiny, prompts: list[list[int]]) -> None:
    kept = [(layer, pattern) for layer, pattern in tiny.session.patterns([prompts[0]])]
    copies = [pattern.clone() for _, pattern in kept]
    for ids in prompts:
        list(tiny.session.patterns([ids]))
    for (_, pattern), copy in zip(kept, copies, strict=True):
        assert torch.equal(pattern, copy)


def test_two_threads_tokenize(tiny: Tiny) -> None:
    session = tiny.session
    wanted = [session.encode(text, limit=9 + i) for i, text in enumerate(DOCUMENTS)]
    wrong: list[str] = []

    def encode() -> None:
        for _ in range(30):
            for i, text in enumerate(DOCUMENTS):
                got = session.encode(text, limit=9 + i)
                if not np.array_equal(got.ids, wanted[i].ids) or got.texts != wanted[i].texts:
                    wrong.append(text)

    together(encode, encode, encode)
    assert wrong == []


class TestAbandoned:
    """An iterator that is not read to its end must not keep the session busy."""

    def test_broken_out_of(self, tiny: Tiny, prompts: list[list[int]]) -> None:
        for _ in tiny.session.patterns([prompts[0]]):
            break
        gc.collect()
        assert_free(tiny.session)

    def test_closed_half_way(self, tiny: Tiny, prompts: list[list[int]]) -> None:
        reading: Any = tiny.session.patterns([prompts[0]])
        next(reading)
        reading.close()
        assert_free(tiny.session)

    def test_dropped(self, tiny: Tiny, prompts: list[list[int]]) -> None:
        reading: Any = tiny.session.patterns([prompts[0]])
        next(reading)
        del reading
        gc.collect()
        assert_free(tiny.session)

    def test_never_begun(self, tiny: Tiny, prompts: list[list[int]]) -> None:
        reading = tiny.session.patterns([prompts[0]])
        assert_free(tiny.session)
        assert [layer for layer, _ in reading] == [0, 1]

    def test_left_by_an_exception(self, tiny: Tiny, prompts: list[list[int]]) -> None:
        def fail() -> None:
            for _ in tiny.session.patterns([prompts[0]]):
                raise RuntimeError("the reader failed")

        with pytest.raises(RuntimeError, match="the reader failed"):
            fail()
        gc.collect()
        assert_free(tiny.session)

    def test_closed_by_another_thread(self, tiny: Tiny, prompts: list[list[int]]) -> None:
        """As when a server drops a session whose script was reading."""
        reading: Any = tiny.session.patterns([prompts[0]])
        together(lambda: next(reading))
        reading.close()
        assert_free(tiny.session)

    def test_many_times(self, tiny: Tiny, prompts: list[list[int]]) -> None:
        wanted = tiny.session.pattern(prompts[1], HEADS[5])
        before = threading.active_count()

        def work() -> None:
            for _ in range(40):
                reading: Any = tiny.session.patterns([prompts[0]])
                next(reading)
                reading.close()
                assert torch.equal(tiny.session.pattern(prompts[1], HEADS[5]), wanted)

        together(work, work)
        assert threading.active_count() <= before

    def test_asking_while_one_reads_is_an_error_not_a_deadlock(
        self, tiny: Tiny, prompts: list[list[int]]
    ) -> None:
        def ask() -> None:
            for _ in tiny.session.patterns([prompts[0]]):
                tiny.session.pattern(prompts[1], HEADS[0])

        with pytest.raises(ModelError, match="iterator"):
            together(ask, seconds=20)
        assert_free(tiny.session)

    def test_two_readers_in_two_threads_then_asking_is_still_an_error(
        self, tiny: Tiny, prompts: list[list[int]]
    ) -> None:
        """The guard must know who reads, also when readers follow each other closely."""

        def ask() -> None:
            for _ in range(30):
                reading: Any = tiny.session.patterns([prompts[0]])
                next(reading)
                with pytest.raises(ModelError, match="iterator"):
                    tiny.session.pattern(prompts[1], HEADS[0])
                reading.close()

        def read() -> None:
            for _ in range(30):
                list(tiny.session.patterns([prompts[1]]))

        together(ask, read, seconds=30)
        assert_free(tiny.session)


def test_two_ask_why_while_a_third_reads(llama: Tiny) -> None:
    """Hooks of one thread's question are met by no other thread's pass."""
    ids = llama.ids("the cat sat on the mat and the dog sat on the mat")
    wanted = why(llama.session, ids, HeadId(1, 1), 9, 4)
    pattern = llama.session.pattern(ids, HeadId(1, 2))

    def ask() -> None:
        for _ in range(30):
            found = why(llama.session, ids, HeadId(1, 1), 9, 4)
            np.testing.assert_array_equal(found.query, wanted.query)
            np.testing.assert_array_equal(found.key, wanted.key)

    def read() -> None:
        for _ in range(CALLS):
            assert torch.equal(llama.session.pattern(ids, HeadId(1, 2)), pattern)

    together(ask, ask, read)
