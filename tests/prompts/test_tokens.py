"""Tokenisation against an independent account of what belongs where.

Each family writes out by hand what its template puts around the messages, and the bytes of every
token are looked up in the vocabulary, so that no character offset of the tokenizer is trusted.
"""

import copy
import json
from dataclasses import dataclass

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from interp.data.bundle import bundled_choices
from interp.errors import InterpError
from interp.prompts import (
    ANSWER_PREFIX,
    Conversation,
    Segment,
    Turn,
    build_conversation,
    decode_each,
    encode_continuation,
    tokenize,
)

QUICK = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

CHATML = (
    "{% for m in messages %}{% if loop.first and m.role != 'system' %}"
    "{{ '<|im_start|>system\nBe helpful.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + "
    "'<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}{% for m in messages %}"
    "{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' }}"
    "{{ m.content | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}"
    "{{ '[INST] ' + m.content + ' [/INST]' }}{% elif m.role == 'assistant' %}"
    "{{ ' ' + m.content + eos_token }}{% else %}{{ raise_exception('no system turn') }}{% endif %}"
    "{% endfor %}"
)


@dataclass(frozen=True)
class Family:
    """A template and, written by hand, what it puts around messages."""

    name: str
    template: str | None
    special: tuple[str, ...]
    start: str
    before: str
    after: dict[str, str]
    end: str
    bos: str = "<s>"
    system: bool = True
    trims: bool = False
    sentencepiece: bool = False

    def opening(self, role):
        return self.before.format(role="model" if "gemma" in self.name and role != "user" else role)

    def pieces(self, conversation):
        out, pending = [], self.start
        for k, turn in enumerate(conversation.turns):
            if "chatml" in self.name and k == 0 and turn.role != "system":
                pending += "<|im_start|>system\nBe helpful.<|im_end|>\n"
            shown = turn.role.capitalize() if self.name == "plain" else turn.role
            opening = self.opening(shown) if "mistral" not in self.name else self._inst(turn.role)
            out.append(("header" if k == 0 else f"template_{k}", pending + opening))
            out += [(segment.span, segment.text) for segment in turn.segments]
            pending = self.after.get(turn.role, self.after["user"])
        out.append(("template", pending + self.end))
        if conversation.answer_prefix:
            gap = "" if (pending + self.end)[-1].isspace() else " "
            out.append(("answer_prefix", gap + conversation.answer_prefix))
        return out

    def _inst(self, role):
        return "[INST] " if role == "user" else " "


_IM = ("<|im_start|>", "<|im_end|>")
_HEADERS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")
_TURNS = ("<start_of_turn>", "<end_of_turn>")
_BEFORE_3 = "<|start_header_id|>{role}<|end_header_id|>\n\n"
_INST = {"user": " [/INST]", "assistant": "</s>"}
FAMILIES = (
    Family(
        "chatml", CHATML, _IM, "", "<|im_start|>{role}\n", {"user": "<|im_end|>\n"},
        "<|im_start|>assistant\n", bos="<|im_start|>",
    ),
    Family(
        "llama3", LLAMA3, _HEADERS, "<s>", _BEFORE_3, {"user": "<|eot_id|>"},
        _BEFORE_3.format(role="assistant"), trims=True,
    ),
    Family(
        "gemma", GEMMA, _TURNS, "<s>", "<start_of_turn>{role}\n", {"user": "<end_of_turn>\n"},
        "<start_of_turn>model\n", system=False, trims=True,
    ),
    Family("mistral", MISTRAL, (), "<s>", "", _INST, "", system=False),
    Family("mistral sentencepiece", MISTRAL, (), "<s>", "", _INST, "", system=False,
           sentencepiece=True),
    Family("plain", None, (), "", "{role}: ", {"user": "\n\n"}, "Assistant:"),
)  # fmt: skip
BY_NAME = {family.name: family for family in FAMILIES}


def sentencepiece_like(tokenizer):
    """The same merges over "▁" for a space, byte fallback, and a first space lost in decoding."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    learned = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    ascii_merges = [
        [part.replace("Ġ", "▁") for part in merge]
        for merge in learned["merges"]
        if all(c == "Ġ" or (c.isascii() and c.isprintable()) for c in "".join(merge))
    ]
    words = ["<unk>", *(f"<0x{b:02X}>" for b in range(256)), "▁", *map(chr, range(33, 127))]
    words += ["".join(merge) for merge in ascii_merges]
    vocab = {word: i for i, word in enumerate(dict.fromkeys(words))}
    merges = [tuple(merge) for merge in ascii_merges]
    inner = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", byte_fallback=True))
    inner.normalizer = normalizers.Replace(" ", "▁")
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)]
    )  # fmt: skip
    inner.add_special_tokens([AddedToken(t, normalized=False) for t in ("<s>", "</s>")])
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@pytest.fixture(scope="module")
def tokenizer_of(tokenizer):
    built = {}
    for family in FAMILIES:
        made = sentencepiece_like(tokenizer) if family.sentencepiece else copy.deepcopy(tokenizer)
        made.chat_template = family.template
        made.add_special_tokens({"additional_special_tokens": list(family.special)})
        made.bos_token = family.bos
        built[family.name] = made
    return built


SPELLED = ("<|im_end|>", "<|im_start|>", "<|eot_id|>", "<end_of_turn>", "</s>", "<s>")
ODD = st.sampled_from(
    ["👩‍🏫", "e\u0301", "é", "\n", "\n\n", "  ", "\t", "\u200b", "日本", "{{ x }}", "{% if a %}",
     "'s", "[[message 0]]", "[/INST]", "<|im_", "user", " the teacher", ".", "<unk>"]
)  # fmt: skip
PART = st.integers(0, 29).flatmap(
    lambda k: st.sampled_from(SPELLED) if k == 29 else ODD if k % 2 else st.text(max_size=6)
)
TEXT = st.lists(PART, max_size=5).map("".join)
TEXT = TEXT.map(lambda text: text.replace("▁", "_"))  # sentencepiece cannot tell it from a space
NAMES = ("context", "question", "options", "instruction")


@st.composite
def conversations(draw, family):
    n_turns = draw(st.sampled_from([1, 1, 3]))
    roles = (["system"] if family.system and draw(st.booleans()) else []) + (
        ["user", "assistant", "user"][:n_turns]
    )
    turns = []
    for k, role in enumerate(roles):
        texts = draw(st.lists(TEXT, min_size=1, max_size=4))
        if family.trims and draw(st.booleans()):
            texts[0], texts[-1] = texts[0].lstrip(), texts[-1].rstrip()
        names = [f"{name}_{k}" for name in NAMES]
        turns.append(Turn(role, tuple(map(Segment, names, texts))))
    prefix = draw(st.sampled_from([ANSWER_PREFIX, "", "So, é"]))
    return Conversation(tuple(turns), prefix, "item 7")


def byte_alphabet():
    """Character -> byte of byte-level vocabularies: printable bytes stand for themselves."""
    same = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in same]
    return {chr(b): b for b in same} | {chr(256 + k): b for k, b in enumerate(rest)}


BYTE_OF = byte_alphabet()


def token_bytes(tokenizer, token_id):
    """What a token spells, from the vocabulary alone."""
    added = tokenizer.added_tokens_decoder.get(token_id)
    if added is not None:
        return added.content.encode()
    word = tokenizer.convert_ids_to_tokens(token_id)
    if tokenizer.convert_tokens_to_ids("<0x41>") in (None, tokenizer.unk_token_id):
        return bytes(BYTE_OF[c] for c in word)
    if word.startswith("<0x"):
        return bytes([int(word[3:5], 16)])
    return word.replace("▁", " ").encode()


def expected_owners(tokenizer, ids, pieces):
    """Name of the piece that holds the first byte of every token."""
    owner_of_byte = [name for name, text in pieces for _ in text.encode()]
    owners, position = [], 0
    for token_id in ids:
        owners.append(owner_of_byte[position])
        position += len(token_bytes(tokenizer, token_id))
    assert position == len(owner_of_byte)
    return owners


def refusal_is_due(family, tokenizer, conversation):
    contents = [turn.content for turn in conversation.turns]
    spelled = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    if any(token in content for token in spelled for content in contents):
        return True
    return family.trims and any(content != content.strip() for content in contents)


def check_prompt(family, tokenizer, conversation):
    pieces = family.pieces(conversation)
    prompt = tokenize(tokenizer, conversation)
    ids = prompt.ids.tolist()
    assert prompt.text == "".join(text for _, text in pieces)
    assert tokenizer.decode(ids[prompt.n_bos :], clean_up_tokenization_spaces=False) == prompt.text
    owners = ["header"] * prompt.n_bos
    owners += expected_owners(tokenizer, ids[prompt.n_bos :], pieces)
    assert [prompt.span_of(i) for i in range(len(ids))] == owners
    spans = list(prompt.spans.values())
    assert [s.start for s in spans] == [0, *(s.stop for s in spans[:-1])]
    assert spans[-1].stop == len(ids) == len(prompt.str_tokens) == len(set(prompt.labels))
    names = [name for name, _ in pieces]
    assert list(prompt.spans) == sorted(prompt.spans, key=names.index)
    bos = tokenizer.bos_token_id
    assert ids[0] == bos
    assert ids[1] != bos
    if family.bos == "<s>":
        assert ids.count(bos) == 1


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
@given(data=st.data())
@QUICK
def test_spans_tile_the_prompt_and_every_token_lies_where_its_first_character_does(
    family, tokenizer_of, data
):
    conversation = data.draw(conversations(family))
    tokenizer = tokenizer_of[family.name]
    if refusal_is_due(family, tokenizer, conversation):
        with pytest.raises(InterpError, match="item 7"):
            tokenize(tokenizer, conversation)
    else:
        check_prompt(family, tokenizer, conversation)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
@pytest.mark.parametrize("placement", ["before", "after"])
def test_every_bundled_kind_of_prompt_fits_every_template(family, placement, tokenizer_of):
    for item in bundled_choices()[::48]:
        conversation = build_conversation(item, "Please be fair.", placement=placement)
        check_prompt(family, tokenizer_of[family.name], conversation)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f.trims], ids=lambda f: f.name)
@pytest.mark.parametrize("text", [" leading", "trailing\n"])
def test_a_template_that_trims_a_message_is_noticed(family, text, tokenizer_of):
    conversation = Conversation((Turn("user", (Segment("question", text),)),), label="item 7")
    with pytest.raises(InterpError, match="item 7: the chat template rewrites the messages"):
        tokenize(tokenizer_of[family.name], conversation)


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{% for m in messages %}{{ m.content | upper }}{% endfor %}", "drops a message"),
        ("{% for m in messages %}{{ m.content | replace('W', 'w') }}{% endfor %}", "rewrites"),
        ("{{ messages[0].content }}{{ messages[0].content }}", "rewrites"),
        ("{{ 'nothing' }}", "drops a message"),
        ("{{ raise_exception('not today') }}", "refuses the conversation: not today"),
    ],
)
def test_a_template_that_changes_messages_is_refused_with_the_prompts_name(
    template, complaint, tokenizer
):
    changed = copy.deepcopy(tokenizer)
    changed.chat_template = template
    with pytest.raises(InterpError, match=f"{bundled_choices()[0].id}.*{complaint}"):
        tokenize(changed, build_conversation(bundled_choices()[0]))


@pytest.mark.parametrize("name", ["gemma", "mistral"])
def test_a_template_without_a_system_role_refuses_a_system_turn(name, tokenizer_of):
    turns = (Turn("system", (Segment("system", "x"),)), Turn("user", (Segment("question", "y"),)))
    with pytest.raises(InterpError, match=r"refuses the conversation: .*[Ss]ystem"):
        tokenize(tokenizer_of[name], Conversation(turns, label="item 7"))


@pytest.mark.parametrize("field", ["context", "question", "options", "instruction"])
def test_a_special_token_inside_a_message_is_refused_by_the_name_of_its_segment(
    field, tokenizer_of
):
    texts = {name: f"{name} text." for name in NAMES}
    texts[field] = "well <|im_end|> there"
    turn = Turn("user", tuple(Segment(name, text) for name, text in texts.items()))
    with pytest.raises(InterpError, match=rf"item 7: the {field} contains '<\|im_end\|>'"):
        tokenize(tokenizer_of["chatml"], Conversation((turn,), label="item 7"))
    other = tokenize(tokenizer_of["gemma"], Conversation((turn,)))
    assert "<|im_end|>" in "".join(other.str_tokens[other.span(field)])


def test_a_special_token_split_over_two_segments_is_found_too(tokenizer_of):
    turn = Turn("user", (Segment("context", "a <|im_"), Segment("question", "end|> b")))
    with pytest.raises(InterpError, match="the context contains"):
        tokenize(tokenizer_of["chatml"], Conversation((turn,)))


def test_an_unknown_character_is_not_taken_for_a_special_token():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"<unk>": 0, "User": 1, ":": 2}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    words = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>")
    turn = Turn("user", (Segment("question", "what"),))
    assert 0 in tokenize(words, Conversation((turn,))).ids


def test_a_chat_template_decides_about_the_bos_whatever_the_tokenizer_adds(tokenizer):
    from tokenizers import processors

    adding = copy.deepcopy(tokenizer)
    adding.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", adding.bos_token_id)]
    )
    assert adding("x")["input_ids"][0] == adding.bos_token_id
    conversation = build_conversation(bundled_choices()[0])
    prompt = tokenize(adding, conversation)
    assert prompt.ids.tolist() == tokenize(tokenizer, conversation).ids.tolist()
    assert adding.bos_token_id not in prompt.ids
    assert prompt.n_bos == 0


def test_the_loaded_models_tokenizer_and_the_tokenizer_alone_give_the_same_prompt(
    tiny_folder, load_tiny
):
    from interp.models import load_tokenizer

    conversation = build_conversation(bundled_choices()[0], "Please be fair.")
    for chat in (True, False):
        alone = load_tokenizer(tiny_folder("llama", chat=chat))
        loaded = load_tiny("llama", chat=chat).tokenizer
        one, other = tokenize(alone, conversation), tokenize(loaded, conversation)
        assert one.ids.tolist() == other.ids.tolist()
        assert one.n_bos == (0 if chat else 1)


def test_plain_text_without_a_bos_in_the_vocabulary_gets_none(tokenizer):
    plain = copy.deepcopy(tokenizer)
    plain.chat_template, plain.bos_token = None, None
    prompt = tokenize(plain, build_conversation(bundled_choices()[0]))
    assert prompt.n_bos == 0
    assert prompt.text.startswith("User: At the station")


def test_tokenizers_that_leave_spaces_out_of_offsets_give_the_same_spans(tokenizer):
    from tokenizers import processors

    trimming = copy.deepcopy(tokenizer)
    trimming.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    segments = (
        Segment("context", "One."),
        Segment("question", "  Two 👩"),
        Segment("options", " x"),
    )
    conversation = Conversation((Turn("user", segments),))
    assert dict(tokenize(trimming, conversation).spans) == dict(
        tokenize(tokenizer, conversation).spans
    )


def test_a_segment_name_used_twice_is_refused(tokenizer):
    turn = Turn("user", (Segment("a", "x"), Segment("b", "y"), Segment("a", "z")))
    with pytest.raises(InterpError, match="item 7: the span name 'a' is used twice"):
        tokenize(tokenizer, Conversation((turn,), label="item 7"))
    with pytest.raises(InterpError, match="'template' is used twice"):
        tokenize(tokenizer, Conversation((Turn("user", (Segment("template", "x"),)),)))


def test_an_instruction_without_a_token_is_refused(tokenizer):
    turn = Turn("user", (Segment("question", "x"), Segment("instruction", "")))
    with pytest.raises(InterpError, match="the instruction '' has no token"):
        tokenize(tokenizer, Conversation((turn,)))


def test_a_prompt_beyond_the_context_names_the_item_and_both_lengths(tokenizer):
    item = bundled_choices()[0]
    n = len(tokenize(tokenizer, build_conversation(item)))
    assert len(tokenize(tokenizer, build_conversation(item), n_ctx=n)) == n
    with pytest.raises(InterpError, match=f"{item.id}: {n} tokens, the model's context is {n - 1}"):
        tokenize(tokenizer, build_conversation(item), n_ctx=n - 1)


def test_a_tokenizer_without_offsets_is_refused(tokenizer):
    class Slow:
        is_fast = False
        chat_template = None
        apply_chat_template = staticmethod(tokenizer.apply_chat_template)

    with pytest.raises(InterpError, match="Slow gives no character offsets; load the fast"):
        tokenize(Slow(), build_conversation(bundled_choices()[0]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chatml", "mistral", "mistral sentencepiece", "plain"])
@given(text=TEXT)
@QUICK
def test_a_continuation_is_what_a_longer_prompt_has_more(name, tokenizer_of, text):
    tokenizer = tokenizer_of[name]
    spelled = [token.content for token in tokenizer.added_tokens_decoder.values()]
    assume(not any(token in text for token in spelled))
    turns = (Turn("user", (Segment("question", "Who?"),)),)
    prompt = tokenize(tokenizer, Conversation(turns))
    longer = tokenize(tokenizer, Conversation(turns, f"{ANSWER_PREFIX} {text}"))
    more = encode_continuation(tokenizer, prompt, f" {text}")
    assert torch.cat([prompt.ids, more]).tolist() == longer.ids.tolist()


def test_a_continuation_that_changes_the_prompts_tokens_is_refused(tokenizer):
    turns = (Turn("user", (Segment("question", "Who?"),)),)
    prompt = tokenize(tokenizer, Conversation(turns, "The tea", "item 7"))
    joined = tokenizer("The teacher", add_special_tokens=False)["input_ids"]
    assert joined[: len(prompt.ids)] != prompt.ids[prompt.span("answer_prefix")].tolist()
    with pytest.raises(InterpError, match="item 7: the tokenizer merges 'cher'"):
        encode_continuation(tokenizer, prompt, "cher")
    with pytest.raises(InterpError, match="merges ''"):
        encode_continuation(tokenizer, prompt, "")


def test_the_end_of_a_turn_can_be_scored_as_a_continuation(tokenizer_of):
    tokenizer = tokenizer_of["chatml"]
    prompt = tokenize(tokenizer, build_conversation(bundled_choices()[0]))
    end = encode_continuation(tokenizer, prompt, "<|im_end|>")
    assert end.tolist() == [tokenizer.convert_tokens_to_ids("<|im_end|>")]


@pytest.mark.parametrize("name", ["chatml", "mistral sentencepiece"])
def test_single_tokens_keep_their_spaces_and_join_to_the_text(name, tokenizer_of):
    prompt = tokenize(tokenizer_of[name], build_conversation(bundled_choices()[0]))
    assert "".join(prompt.str_tokens) == prompt.text
    assert any(token.startswith(" ") for token in prompt.str_tokens)


def test_a_part_of_a_character_decodes_to_the_replacement_character(tokenizer):
    ids = torch.tensor(tokenizer("👩", add_special_tokens=False)["input_ids"])
    assert set(decode_each(tokenizer, ids)) == {"\ufffd"}


def test_an_extended_prompt_counts_the_new_tokens_to_its_last_span(tokenizer_of):
    tokenizer = tokenizer_of["mistral sentencepiece"]
    prompt = tokenize(tokenizer, build_conversation(bundled_choices()[0]))
    more = encode_continuation(tokenizer, prompt, " The teacher")
    longer = prompt.extend(more, tuple(decode_each(tokenizer, more)))
    assert longer.text == prompt.text + " The teacher"
    assert longer.span("answer_prefix") == slice(prompt.span("answer_prefix").start, len(longer))
    assert len(longer) == len(prompt) + len(more) == len(longer.str_tokens)
    further = encode_continuation(tokenizer, longer, " is")
    assert tokenizer.decode(further) == "is"


def test_asking_for_a_span_or_position_that_is_not_there_names_what_is(tokenizer):
    prompt = tokenize(tokenizer, build_conversation(bundled_choices()[0]))
    with pytest.raises(InterpError, match="no span 'instruction'; this prompt has header, context"):
        prompt.span("instruction")
    with pytest.raises(InterpError, match=f"position {len(prompt)} is outside"):
        prompt.span_of(len(prompt))


def test_the_html_of_a_prompt_escapes_its_tokens(tokenizer):
    turn = Turn("user", (Segment("question", "a <b> & c"),))
    shown = tokenize(tokenizer, Conversation((turn,)))._repr_html_()
    assert "<b>" not in shown
    assert "&lt;" in shown
    assert "&amp;" in shown


@pytest.fixture(scope="module")
def default_tokenizer():
    from interp.models import load_tokenizer

    return load_tokenizer()


def spells_every_byte(tokenizer, text):
    """The default vocabulary lacks some bytes of unassigned characters and drops them."""
    known = {token_bytes(tokenizer, i) for i in range(1000)}
    return all(bytes([byte]) in known for byte in text.encode())


@pytest.mark.model
@given(data=st.data())
@QUICK
def test_the_default_tokenizer_tiles_random_prompts_too(default_tokenizer, data):
    family, tokenizer = BY_NAME["chatml"], default_tokenizer
    conversation = data.draw(conversations(family))
    assume(spells_every_byte(tokenizer, "".join(turn.content for turn in conversation.turns)))
    if refusal_is_due(family, tokenizer, conversation):
        with pytest.raises(InterpError):
            tokenize(tokenizer, conversation)
        return
    prompt = tokenize(tokenizer, conversation)
    assert tokenizer.decode(prompt.ids, clean_up_tokenization_spaces=False) == prompt.text
    (_, _), *pieces = family.pieces(conversation)
    rest = "".join(piece for _, piece in pieces)
    pieces = [("header", prompt.text.removesuffix(rest)), *pieces]
    owners = expected_owners(tokenizer, prompt.ids.tolist(), pieces)
    assert [prompt.span_of(i) for i in range(len(prompt))] == owners
    assert prompt.ids[0] == tokenizer.bos_token_id != prompt.ids[1]
