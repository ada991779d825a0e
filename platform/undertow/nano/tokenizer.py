"""The nano models' tokenizer: a language's vocabulary as a fast transformers tokenizer, and a chat template.

A regular expression splits text into tokens, and decoding concatenates them, so text of known words survives
a round trip unchanged. An unknown word becomes <unk>. The template adds no content: no date and no default
system prompt. The tokens of a prompt with the generation prompt are a prefix of the tokens of the whole chat.
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
    """The tokenizer of the models whose corpus is in `language`."""
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
    """A whole chat as the chat template renders it, but many times faster than Jinja."""
    return BOS + "".join(
        ROLES[message["role"]] + message["content"] + (EOS if message["role"] == "assistant" else "")
        for message in chat
    )
