"""Random two-layer models of many architectures, each saved to a folder with a tiny tokenizer.

``WINDOW`` is shorter than the texts of the tests, so that every sliding window cuts. :data:`ALL`
are those that can be read, :data:`REFUSED` some that cannot; :func:`save` makes one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.conftest import save_tokenizer

N_CTX = 64
WINDOW = 12
D_MODEL, D_HEAD, HEADS, KV_HEADS = 32, 8, 4, 2

Values = Callable[[Any], Any]  # what the linear layer of values gives → (batch, src, kv head, d)


def full(dst: int) -> int:
    return dst + 1


def window(dst: int) -> int:
    return min(dst + 1, WINDOW)


def chunk(dst: int) -> int:
    return dst % WINDOW + 1


@dataclass(frozen=True)
class Norms:
    """Where a model keeps its norms, dotted: ``read`` and ``written`` in a block, ``query`` and
    ``key`` in its attention, ``final`` and ``embedding`` in the base model; ``centred`` as
    LayerNorm is; ``plus`` what is added to the weight that is kept."""

    read: str
    final: str
    centred: bool
    written: str = ""
    query: str = ""
    key: str = ""
    embedding: str = ""
    plus: float = 0.0

    def gain(self, module: Any, name: str) -> Any:
        """(d,) float64 the gain of a norm inside a module; 1 where there is none."""
        if not name:
            return 1.0
        return self.plus + module.get_submodule(name).weight.detach().double()


@dataclass(frozen=True)
class Architecture:
    """A tiny model and what is known of it from its paper or code, not from ours.

    ``config`` and ``model`` class names in transformers, ``settings`` of the configuration;
    ``visible`` (layer,) how many sources a row sees; ``values`` and ``output`` the linear layers of
    a block, dotted, from which what it writes is computed, and ``heads`` how the first one's output
    splits into heads; ``without`` the layers that have no attention; ``norms`` where its norms are,
    None where they stand in the residual stream.
    """

    config: str
    model: str
    settings: dict[str, Any]
    values: str = "self_attn.v_proj"
    output: str = "self_attn.o_proj"
    heads: Values = field(default=lambda x: x.unflatten(-1, (-1, D_HEAD)))
    visible: tuple[Callable[[int], int], ...] = (full, full)
    bidirectional: bool = False
    without: tuple[int, ...] = ()
    norms: Norms | None = None

    @property
    def masked(self) -> bool:
        """Whether it is a masked language model."""
        return self.model.endswith("MaskedLM")


def _thirds(x: Any) -> Any:
    """Queries, keys and values one after the other."""
    return x[..., -D_MODEL:].unflatten(-1, (-1, D_HEAD))


def _thirds_of_heads(x: Any) -> Any:
    """Query, key and value of one head after the other."""
    return x.unflatten(-1, (HEADS, 3, D_HEAD))[..., 2, :]


def _last_head(x: Any) -> Any:
    """All queries, the one key, the one value."""
    return x[..., None, -D_HEAD:]


def _last_heads(x: Any) -> Any:
    """All queries, the keys, the values of the KV heads."""
    return x[..., -KV_HEADS * D_HEAD :].unflatten(-1, (-1, D_HEAD))


_LLAMA = {
    "hidden_size": D_MODEL,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "max_position_embeddings": N_CTX,
    "initializer_range": 0.3,
}
_GROUPED = {**_LLAMA, "num_key_value_heads": KV_HEADS}
_GEMMA = {**_GROUPED, "head_dim": D_HEAD, "query_pre_attn_scalar": 16}
_LOCAL_FIRST = {
    "layer_types": ["sliding_attention", "full_attention"],
    "sliding_window": WINDOW,
}
_GPT2 = {
    "n_embd": D_MODEL,
    "n_layer": 2,
    "n_head": HEADS,
    "n_positions": N_CTX,
    "initializer_range": 0.3,
}
_BERT = {**_LLAMA, "type_vocab_size": 2}
_BERT_PARTS = ("attention.self.value", "attention.output.dense")
_OPT = {
    "hidden_size": D_MODEL,
    "word_embed_proj_dim": D_MODEL,
    "ffn_dim": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "max_position_embeddings": N_CTX,
    "init_std": 0.3,
}
_NEO = {
    "hidden_size": D_MODEL,
    "intermediate_size": 48,
    "num_layers": 2,
    "num_heads": HEADS,
    "attention_types": [[["local", "global"], 1]],
    "window_size": WINDOW,
    "max_position_embeddings": N_CTX,
    "initializer_range": 0.3,
}
_LN_GPT2 = Norms("ln_1", "ln_f", centred=True)
_LN_NEOX = Norms("input_layernorm", "final_layer_norm", centred=True)
_RMS_LLAMA = Norms("input_layernorm", "norm", centred=False)
_RMS_GEMMA = Norms(
    "input_layernorm", "norm", centred=False, written="post_attention_layernorm", plus=1.0
)
_EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}

ALL = {
    "gpt2": Architecture(
        "GPT2Config",
        "GPT2LMHeadModel",
        _GPT2,
        "attn.c_attn",
        "attn.c_proj",
        _thirds,
        norms=_LN_GPT2,
    ),
    "gpt2-scaled": Architecture(
        "GPT2Config",
        "GPT2LMHeadModel",
        {**_GPT2, "scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True},
        "attn.c_attn",
        "attn.c_proj",
        _thirds,
        norms=_LN_GPT2,
    ),
    "gpt-neox": Architecture(
        "GPTNeoXConfig",
        "GPTNeoXForCausalLM",
        _LLAMA,
        "attention.query_key_value",
        "attention.dense",
        _thirds_of_heads,
        norms=_LN_NEOX,
    ),
    "gpt-neo": Architecture(
        "GPTNeoConfig",
        "GPTNeoForCausalLM",
        _NEO,
        "attn.attention.v_proj",
        "attn.attention.out_proj",
        visible=(window, full),
        norms=_LN_GPT2,
    ),
    "gpt-j": Architecture(
        "GPTJConfig",
        "GPTJForCausalLM",
        {**_GPT2, "rotary_dim": 4},
        "attn.v_proj",
        "attn.out_proj",
        norms=_LN_GPT2,
    ),
    "gpt-bigcode": Architecture(
        "GPTBigCodeConfig",
        "GPTBigCodeForCausalLM",
        {**_GPT2, "multi_query": True},
        "attn.c_attn",
        "attn.c_proj",
        _last_head,
        norms=_LN_GPT2,
    ),
    "llama": Architecture(
        "LlamaConfig",
        "LlamaForCausalLM",
        _GROUPED,
        norms=_RMS_LLAMA,
    ),
    "llama4": Architecture(  # chunks where positions are rotary, everything elsewhere
        "Llama4TextConfig",
        "Llama4ForCausalLM",
        {
            **_GROUPED,
            **_EXPERTS,
            "head_dim": D_HEAD,
            "intermediate_size_mlp": 48,
            "attention_chunk_size": WINDOW,
            "no_rope_layers": [1, 0],
        },
        visible=(chunk, full),
        norms=replace(_RMS_LLAMA, final="model.norm"),
    ),
    "mistral": Architecture(
        "MistralConfig",
        "MistralForCausalLM",
        {**_GROUPED, "sliding_window": WINDOW},
        visible=(window, window),
        norms=_RMS_LLAMA,
    ),
    "qwen2": Architecture(
        "Qwen2Config",
        "Qwen2ForCausalLM",
        {
            **_GROUPED,
            "use_sliding_window": True,
            "sliding_window": WINDOW,
            "max_window_layers": 1,
        },
        visible=(full, window),
        norms=_RMS_LLAMA,
    ),
    "qwen3": Architecture(
        "Qwen3Config",
        "Qwen3ForCausalLM",
        {**_GROUPED, "head_dim": D_HEAD},
        norms=replace(_RMS_LLAMA, query="self_attn.q_norm", key="self_attn.k_norm"),
    ),
    "gemma2": Architecture(
        "Gemma2Config",
        "Gemma2ForCausalLM",
        {**_GEMMA, **_LOCAL_FIRST, "attn_logit_softcapping": 2.0},
        visible=(window, full),
        norms=_RMS_GEMMA,
    ),
    "gemma3": Architecture(
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        {**_GEMMA, **_LOCAL_FIRST},
        visible=(window, full),
        norms=replace(_RMS_GEMMA, query="self_attn.q_norm", key="self_attn.k_norm"),
    ),
    "phi": Architecture(
        "PhiConfig",
        "PhiForCausalLM",
        {**_GROUPED, "partial_rotary_factor": 0.5},
        output="self_attn.dense",
        norms=Norms("input_layernorm", "final_layernorm", centred=True),
    ),
    "phi3": Architecture(
        "Phi3Config",
        "Phi3ForCausalLM",
        {**_GROUPED, "sliding_window": WINDOW, "pad_token_id": 0},
        "self_attn.qkv_proj",
        heads=_last_heads,
        visible=(window, window),
        norms=_RMS_LLAMA,
    ),
    "falcon": Architecture(
        "FalconConfig",
        "FalconForCausalLM",
        {**_LLAMA, "multi_query": True, "alibi": False, "new_decoder_architecture": False},
        "self_attention.query_key_value",
        "self_attention.dense",
        _last_head,
        norms=Norms("input_layernorm", "ln_f", centred=True),
    ),
    "opt": Architecture(
        "OPTConfig",
        "OPTForCausalLM",
        _OPT,
        output="self_attn.out_proj",
        norms=Norms("self_attn_layer_norm", "decoder.final_layer_norm", centred=True),
    ),
    "bloom": Architecture(
        "BloomConfig",
        "BloomForCausalLM",
        {"hidden_size": D_MODEL, "n_layer": 2, "n_head": HEADS, "initializer_range": 0.3},
        "self_attention.query_key_value",
        "self_attention.dense",
        _thirds_of_heads,
        norms=Norms("input_layernorm", "ln_f", centred=True, embedding="word_embeddings_layernorm"),
    ),
    "bert": Architecture("BertConfig", "BertForMaskedLM", _BERT, *_BERT_PARTS, bidirectional=True),
    "bert-decoder": Architecture(
        "BertConfig", "BertLMHeadModel", {**_BERT, "is_decoder": True}, *_BERT_PARTS
    ),
    "bert-not-masked": Architecture(  # sees both ways, whatever the name of its class says
        "BertConfig", "BertLMHeadModel", _BERT, *_BERT_PARTS, bidirectional=True
    ),
    "roberta": Architecture(
        "RobertaConfig",
        "RobertaForMaskedLM",
        {**_BERT, "pad_token_id": 1},
        *_BERT_PARTS,
        bidirectional=True,
    ),
    "lfm2": Architecture(
        "Lfm2Config",
        "Lfm2ForCausalLM",
        {
            **_GROUPED,
            "layer_types": ["conv", "full_attention"],
            "block_auto_adjust_ff_dim": False,
        },
        output="self_attn.out_proj",
        without=(0,),
        norms=Norms(
            "operator_norm",
            "embedding_norm",
            centred=False,
            query="self_attn.q_layernorm",
            key="self_attn.k_layernorm",
        ),
    ),
}

REFUSED = {
    "gpt-oss": Architecture(
        "GptOssConfig",
        "GptOssForCausalLM",
        {**_GROUPED, **_EXPERTS, **_LOCAL_FIRST, "head_dim": D_HEAD},
    ),
    "distilbert": Architecture(
        "DistilBertConfig",
        "DistilBertForMaskedLM",
        {"dim": D_MODEL, "n_layers": 2, "n_heads": HEADS, "hidden_dim": 48},
    ),
    "mamba": Architecture(
        "MambaConfig", "MambaForCausalLM", {"hidden_size": D_MODEL, "num_hidden_layers": 2}
    ),
    "mpt": Architecture(
        "MptConfig",
        "MptForCausalLM",
        {"d_model": D_MODEL, "n_layers": 2, "n_heads": HEADS, "max_seq_len": N_CTX},
    ),
    "falcon-alibi": Architecture(
        "FalconConfig",
        "FalconForCausalLM",
        {**_LLAMA, "multi_query": False, "alibi": True, "new_decoder_architecture": False},
    ),
    "gemma3-both-ways": Architecture(
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        {**_GEMMA, **_LOCAL_FIRST, "use_bidirectional_attention": True},
    ),
    "gemma3-capped": Architecture(
        "Gemma3TextConfig",
        "Gemma3ForCausalLM",
        {**_GEMMA, **_LOCAL_FIRST, "attn_logit_softcapping": 2.0},
    ),
    "t5": Architecture(
        "T5Config",
        "T5ForConditionalGeneration",
        {
            "d_model": D_MODEL,
            "d_kv": D_HEAD,
            "d_ff": 48,
            "num_layers": 2,
            "num_heads": HEADS,
            "decoder_start_token_id": 0,
        },
    ),
    "bart": Architecture(
        "BartConfig",
        "BartForConditionalGeneration",
        {
            "d_model": D_MODEL,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "encoder_attention_heads": HEADS,
            "decoder_attention_heads": HEADS,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "max_position_embeddings": N_CTX,
            "decoder_start_token_id": 0,
        },
    ),
}


def save(kind: Architecture, folder: Path, **more: Any) -> Path:
    """Make a model with random weights in a folder; ``more`` settings of its configuration."""
    import torch
    import transformers

    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    if kind.bidirectional:
        tokens = {
            "cls_token": "[CLS]",
            "sep_token": "[SEP]",
            "pad_token": "[PAD]",
            "mask_token": "[MASK]",
        }
    size = save_tokenizer(folder, tokens)
    common = {"vocab_size": size, "pad_token_id": None, "bos_token_id": 1, "eos_token_id": 0}
    config = getattr(transformers, kind.config)(**{**common, **kind.settings, **more})
    torch.manual_seed(5)
    model = getattr(transformers, kind.model)(config)
    draw_gains(model)
    model.save_pretrained(folder)
    return folder


def draw_gains(model: Any) -> None:
    """Give every norm of a model a gain far from 1, and a bias if it has one."""
    import torch

    with torch.no_grad():
        for module in model.modules():
            if "norm" not in type(module).__name__.lower():
                continue
            for name, values in module.named_parameters(recurse=False):
                if name == "weight":  # those that begin as 0 have 1 added
                    values.add_(torch.empty_like(values).uniform_(-0.7, 1.0))
                else:
                    values.normal_(0, 0.3)


def plain_model(kind: Architecture, folder: Path) -> Any:
    """The model of a folder as plain transformers loads it, with eager attention, in float32."""
    import torch
    import transformers

    auto = transformers.AutoModelForMaskedLM if kind.masked else transformers.AutoModelForCausalLM
    return auto.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()


def written(kind: Architecture, plain: Any, ids: list[int]) -> Any:
    """(layer with attention, head, src) ``‖v_src · W_O‖`` from the weights of a plain model."""
    import torch

    norms, handles = [], []
    for layer, block in enumerate(blocks(plain)):
        if layer in kind.without:
            continue
        output = block.get_submodule(kind.output)
        weight = output.weight if type(output).__name__ == "Conv1D" else output.weight.T
        w_o = weight.detach().double().reshape(HEADS, D_HEAD, D_MODEL)

        def note(module: Any, inputs: Any, out: Any, w_o: Any = w_o) -> None:
            values = kind.heads(out[0].double())  # (src, kv head, d_head)
            of_heads = values.repeat_interleave(HEADS // values.shape[1], 1)
            norms.append(torch.einsum("shd,hdm->hsm", of_heads, w_o).norm(dim=-1))

        handles.append(block.get_submodule(kind.values).register_forward_hook(note))
    with torch.no_grad():
        plain(torch.tensor([ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    return torch.stack(norms).numpy()


def blocks(plain: Any) -> Any:
    """The layers of a plain model."""
    base = plain.base_model
    for name in ("h", "layers", "model.layers", "encoder.layer", "decoder.layers"):
        try:
            return base.get_submodule(name)
        except AttributeError:
            continue
    raise LookupError(type(base).__name__)
