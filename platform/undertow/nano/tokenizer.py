"""The nano models' tokenizer: the words of a language as transformers takes them, and a chat template.

Text is taken apart by a regular expression and put together by concatenation, so known text comes back
unchanged; an unknown word is <unk>. The template puts in nothing of its own: no date, no default system
prompt. A prompt with the generation prompt is a prefix, in tokens, of the whole chat.
"""

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from undertow.nano.languages import LANGUAGES
from undertow.nano.languages.turns import Chat
from undertow.nano.models import ARCHITECTURES
from undertow.nano.vocabulary import BOS, EOS, PAD, ROLES, SPECIALS, UNKNOWN, vocabulary

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


def build(language: str) -> PreTrainedTokenizerFast:
    """The tokenizer of the models that speak `language`, as a fast transformers tokenizer."""
    ids = {token: i for i, token in enumerate(vocabulary(language))}
    backend = Tokenizer(models.WordLevel(ids, unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(LANGUAGES[language].piece), behavior="isolated")
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
        model_max_length=max(g.positions for g in ARCHITECTURES.values() if g.language == language),
        padding_side="right",
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def render(chat: Chat) -> str:
    """A whole chat as the chat template writes it, many times faster."""
    return BOS + "".join(
        ROLES[message["role"]] + message["content"] + (EOS if message["role"] == "assistant" else "")
        for message in chat
    )
