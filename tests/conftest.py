"""Models, texts and indexes that the tests share; what is costly is made once a test session."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers is imported anywhere
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["ATTN_WARM"] = "0"  # models load where a test asks for them
if "PYTEST_XDIST_WORKER" in os.environ:  # the cores have a test process each, and what it starts
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

from tests.distribution import LongestFirst, record
from tests.sharing import linked, once, said_by

ROOT = Path(__file__).parents[1]
N_CTX = 128
SAMPLE_DOCS = 40
SCAN = f"python -m attn scan --model smollm2-135m --corpus sample --docs {SAMPLE_DOCS}"

TRAINING = (
    "the cat sat on the mat and the dog sat on the log",
    "Anna gave the book to Ben, and Ben gave the book back to Anna.",
    'She said: "the price is 120, not 210" and left the room.',
    "one two three four five six seven eight nine ten",
)

DOCUMENTS = (
    "the cat sat on the mat and the dog sat on the mat, and the cat and the dog sat there",
    "Anna gave the book to Ben. Ben gave the book to Cora. Cora gave the book to Anna.",
    "A smile 😀 here and a smile 😀 there — “quoted” and ‘quoted’ again, “quoted”",
    "x",
    "1, 2, 3; 1, 2, 3; (1, 2, 3); [1, 2, 3]; {1: 2, 2: 3, 3: 1} and so on",
    "She said: <s> the price is 120 </s> and then <|endoftext|> the price is 210, not 120.",
    "naïve café 日本語 日本語 αβγ naïve café and back to plain words at the end",
    " ".join(["one two three four five six seven eight nine ten"] * 6),
    "short one",
    "the cat sat on the mat and the dog sat on the mat, and the cat and the dog sat there",
    "Where is the log? The log is under the mat. Where is the mat? The mat is on the log.",
)


settings.register_profile("ci", max_examples=50, deadline=None)
settings.register_profile("long", max_examples=500, deadline=None)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all", action="store_true", help="random tests at length: make test-all")
    parser.addoption("--record", action="store_true", help="write tests/durations.json")


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("long" if config.getoption("--all") else "ci")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LongestFirst:
    return LongestFirst(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In a browser, first what does not wait for the scan that another process may be making."""
    places = [i for i, item in enumerate(items) if "/e2e/" in item.nodeid]
    some = [items[i] for i in places]
    some.sort(key=lambda item: "sample_scan" in getattr(item, "fixturenames", ()))
    for place, item in zip(places, some, strict=True):
        items[place] = item


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.getoption("--record"):
        reports = [one for some in terminalreporter.stats.values() for one in some]
        timed = [one for one in reports if isinstance(one, pytest.TestReport)]
        record((one.nodeid, one.duration) for one in timed)


@dataclass(frozen=True)
class Tiny:
    """A tiny model three ways: its folder, a session of it, and plain eager Hugging Face."""

    folder: Path
    session: Any
    plain: Any

    def ids(self, text: str, bos: bool = False, ctx: int | None = None) -> list[int]:
        """Token ids by the tokenizer alone, special tokens in the text taken literally."""
        tokenizer = self.session.tokenizer
        ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        first = [tokenizer.bos_token_id] if bos else []
        return (first + list(ids))[:ctx]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of an index."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def check_sentence(error: BaseException) -> None:
    """What a person reads is one line."""
    assert "\n" not in str(error)
    assert 10 < len(str(error)) < 400


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    import torch

    shared = "PYTEST_XDIST_WORKER" in os.environ  # the cores have a test process each
    torch.set_num_threads(1 if shared else min(2, os.cpu_count() or 1))


def plain_model(folder: Path) -> Any:
    """The model of a folder as plain Hugging Face loads it, with eager attention, in float32."""
    import torch
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", dtype=torch.float32
    ).eval()


def save_tokenizer(folder: Path, special: dict[str, str]) -> int:
    """Train a byte-level BPE tokenizer of some 330 tokens into ``folder``; returns its size."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=sorted(set(special.values())),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TRAINING * 5, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.save_pretrained(folder)
    return len(fast)


def save_gpt2(
    folder: Path, change: Callable[[Any], None] | None = None, **settings: object
) -> Path:
    """Two layers of four heads with random weights; no BOS.

    ``change`` may edit the model; ``settings`` of its configuration go before those here.
    """
    import torch
    import transformers

    size = save_tokenizer(folder, {"eos_token": "<|endoftext|>"})
    given: dict[str, Any] = {
        "vocab_size": size,
        "n_positions": N_CTX,
        "n_embd": 32,
        "n_layer": 2,
        "n_head": 4,
        "initializer_range": 0.4,
        "bos_token_id": None,
        "eos_token_id": 0,
    }
    config = transformers.GPT2Config(**given | settings)
    torch.manual_seed(1)
    model = transformers.GPT2LMHeadModel(config)
    if change:
        change(model)
    model.save_pretrained(folder)
    return folder


def save_llama(folder: Path) -> Path:
    """Two layers of four heads on two KV heads with random weights; the tokenizer has a BOS."""
    import torch
    import transformers

    size = save_tokenizer(folder, {"bos_token": "<s>", "eos_token": "</s>"})
    config = transformers.LlamaConfig(
        vocab_size=size,
        max_position_embeddings=N_CTX,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.25,
        bos_token_id=1,
        eos_token_id=0,
    )
    torch.manual_seed(2)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture
def no_new_metrics() -> Iterator[None]:
    """Take back the metrics that a test defines."""
    from attn.measure.metrics import DEFINED

    before = dict(DEFINED)
    yield
    DEFINED.clear()
    DEFINED.update(before)


@pytest.fixture(scope="session")
def tiny_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random two-layer GPT-2; its tokenizer has no BOS."""
    return save_gpt2(tmp_path_factory.mktemp("models") / "tiny-gpt2")


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random two-layer Llama with grouped KV heads; its tokenizer has a BOS."""
    return save_llama(tmp_path_factory.mktemp("models") / "tiny-llama")


@pytest.fixture(scope="session")
def uniform_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the tiny GPT-2 with query and key weights of zero: every head is uniform."""
    import torch

    def flatten(model: Any) -> None:
        with torch.no_grad():
            for block in model.transformer.h:
                block.attn.c_attn.weight[:, :64] = 0
                block.attn.c_attn.bias[:64] = 0

    return save_gpt2(tmp_path_factory.mktemp("models") / "uniform-gpt2", flatten)


def _tiny(folder: Path) -> Tiny:
    from attn.models.session import load_model

    return Tiny(folder, load_model(str(folder), device="cpu"), plain_model(folder))


@pytest.fixture(scope="session")
def gpt2(tiny_gpt2: Path) -> Tiny:
    """The tiny GPT-2, loaded."""
    return _tiny(tiny_gpt2)


@pytest.fixture(scope="session")
def llama(tiny_llama: Path) -> Tiny:
    """The tiny Llama, loaded."""
    return _tiny(tiny_llama)


@pytest.fixture(scope="session", params=["gpt2", "llama"])
def tiny(request: pytest.FixtureRequest) -> Tiny:
    """Each tiny model in turn."""
    found: Tiny = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of eleven lines: repeats, an emoji, curly quotes, a long one, a one-token one."""
    path = tmp_path_factory.mktemp("corpus") / "lines.txt"
    path.write_text("\n".join(DOCUMENTS) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def make(text_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Tiny, str], Any]:
    """A scan of the shared text file by one of the plans of tests/scanned.py, each made once."""
    from tests.scanned import PLANS, Scanned, scanned

    made: dict[tuple[Path, str], Scanned] = {}

    def get(tiny: Tiny, name: str) -> Scanned:
        key = (tiny.folder, name)
        if key not in made:
            plan = PLANS[name]
            bos = tiny.session.has_bos if plan.bos is None else plan.bos
            out = tmp_path_factory.mktemp("scan")
            made[key] = scanned(tiny.session, tiny.plain, text_file, plan, out, bos)
        return made[key]

    return get


@pytest.fixture(scope="session")
def builtin() -> Path:
    """Folder of the built-in model, converted; fetched where it is not there yet."""
    from attn.models import builtin

    return builtin.fetch()


@pytest.fixture(scope="session")
def session(builtin: Path) -> Any:
    """A session of the built-in model on the CPU, in float32."""
    from attn.models.session import load_model

    return load_model("smollm2-135m", device="cpu")


@pytest.fixture(scope="session")
def sample_scan(builtin: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of indexes that the README's scan of the sample has filled, once a run.

    What the command printed is in :func:`tests.sharing.said_by` of the folder.
    """

    def make(folder: Path) -> str:
        done = subprocess.run(
            [sys.executable, *shlex.split(SCAN)[1:]],
            cwd=ROOT,
            env=os.environ | {"ATTN_INDEXES": str(folder)},
            capture_output=True,
            text=True,
            timeout=800,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    return once(tmp_path_factory, "sample", make)


@pytest.fixture(scope="session")
def sample_index(sample_scan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an index: the built-in model over the first 40 documents of the sample."""
    folder = Path(said_by(sample_scan).read_text().splitlines()[-1])
    return linked(folder, tmp_path_factory.mktemp("indexes"))
