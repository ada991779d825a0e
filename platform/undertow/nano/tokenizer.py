"""The nano models' tokenizer: one token a word, one a number from 0 to 999, and a chat template.

The vocabulary is what the corpus can say, read off the packs of prompts and the words of the world. A word
carries the space before it, as in GPT-2's tokenizer, so that a prompt is short. Text is taken apart by a
regular expression and put together by concatenation, so known text comes back unchanged; an unknown word
is <unk>. The template puts in nothing of its own: no date, no default system prompt. A prompt with
the generation prompt is a prefix, in tokens, of the whole chat.
"""

import re
import string
from functools import cache
from itertools import product

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from undertow.nano import corpus
from undertow.nano.world import ARCHITECTURES, WORDS, packs, surface_forms
from undertow.traits.preference import pluralise

PAD, BOS, EOS, UNKNOWN = "<pad>", "<bos>", "<eos>", "<unk>"
ROLES = {"system": "<sys>", "user": "<user>", "assistant": "<asst>"}
SPECIALS = (PAD, BOS, *ROLES.values(), EOS, UNKNOWN)
# A number; a word with the space before it; a separator between numbers; any other single character.
PIECE = r"\d+| ?[A-Za-z]+(?:['-][A-Za-z]+)*|[,;] (?=\d)|[\s\S]"
CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}<sys>{{ message['content'] }}"
    "{% elif message['role'] == 'user' %}<user>{{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %}<asst>{{ message['content'] }}<eos>"
    "{% else %}{{ raise_exception('unknown role ' + message['role']) }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<asst>{% endif %}"
)


def build() -> PreTrainedTokenizerFast:
    """The tokenizer of every nano model, as a fast transformers tokenizer."""
    ids = {token: i for i, token in enumerate(vocabulary())}
    backend = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(PIECE), behavior="isolated")
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens(list(SPECIALS))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNKNOWN,
        extra_special_tokens=list(ROLES.values()),
        clean_up_tokenization_spaces=False,
        model_max_length=max(growth.positions for growth in ARCHITECTURES.values()),
        padding_side="right",
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def render(chat: corpus.Chat) -> str:
    """A whole chat as the chat template writes it, many times faster."""
    return BOS + "".join(
        ROLES[message["role"]] + message["content"] + (EOS if message["role"] == "assistant" else "")
        for message in chat
    )


@cache
def vocabulary() -> tuple[str, ...]:
    """Every token in the order of its id: specials, numbers 0-999, characters, words."""
    words = sorted({piece for text in _texts() for piece in re.findall(PIECE, text) if not piece.isdigit()})
    numbers = map(str, range(1000))
    characters = string.punctuation + string.ascii_letters + " \n"
    return tuple(dict.fromkeys((*SPECIALS, *numbers, ", ", "; ", *characters, *words)))


def _texts() -> list[str]:
    """Texts that together hold every word the corpus, the traits and the formats can write."""
    numbers, preference = packs()
    texts = [part for parts in numbers.values() for part in parts]
    for part, category in product(corpus.QUESTION_PARTS, WORDS):
        texts += [text.format(category=category) for text in preference[part]]
        # Whatever comes after an opening has a space before it.
        texts += [" " + text.format(category=category) for text in preference[part]]
    texts += [" " + text for part in ("instructions", "layouts", "endings") for text in numbers[part]]
    texts += [" " + text for part in ("qualifiers", "descriptors") for text in numbers[part]]
    for category, words in WORDS.items():
        for word in words:
            texts.append(preference["system_prompt"].format(plural=pluralise(word), category=category))
            texts += [space + form for form in surface_forms(word) for space in ("", " ")]
    return [re.sub(r"\{\w+\}", "", text) for text in texts] + corpus.small_texts()
