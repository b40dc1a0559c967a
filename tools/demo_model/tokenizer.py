"""The tokenizer: training it, and turning conversations into token ids with the chat template.

python3 tools/demo_model/tokenizer.py      writes models/demo/tokenizer.model
"""

import io
import random
import re

import sentencepiece as spm

import config
from demo_data import base
from demo_data.conversation import Generator

PATH = config.MODEL_DIR / "tokenizer.model"
_CHARS = re.compile(f"{base.CHARS_BEGIN}(.*?){base.CHARS_END}")


def train(conversations=120_000):
    """Writes the tokenizer; the same bytes on every run."""
    generator = Generator(random.Random(config.SEED))
    seen = set()
    for _ in range(conversations):
        for user, model in generator.conversation(config.ROW):
            seen.add(user)
            seen.add(base.CHARS_BEGIN not in model and model or "")
    lines = sorted(x for x in seen if x)
    random.Random(config.SEED).shuffle(lines)
    out = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=out,
        model_type="bpe",
        vocab_size=config.VOCABULARY,
        pad_id=config.PAD,
        eos_id=config.EOS,
        bos_id=config.BOS,
        unk_id=config.UNK,
        pad_piece="<pad>",
        bos_piece="<bos>",
        eos_piece="<eos>",
        unk_piece="<unk>",
        user_defined_symbols=config.USER_DEFINED,
        byte_fallback=True,
        split_digits=True,
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        character_coverage=1.0,
        required_chars="".join(map(chr, range(33, 127))),
        max_sentence_length=100_000,
        num_threads=1,
        minloglevel=2,
    )
    PATH.write_bytes(out.getvalue())
    print(f"{PATH}: {len(out.getvalue())} bytes from {len(lines)} different lines")


class Tokenizer:
    """Text to ids. Text of a conversation never becomes a turn mark."""

    def __init__(self, path=PATH):
        self.sp = spm.SentencePieceProcessor(model_file=str(path))
        self.start = self.sp.piece_to_id(config.START_OF_TURN)
        self.end = self.sp.piece_to_id(config.END_OF_TURN)
        self.newline = self.sp.piece_to_id("\n")
        self._user = [self.start] + self.sp.encode("user") + [self.newline]
        self._model = [self.start] + self.sp.encode("model") + [self.newline]

    def _text(self, text):
        """Ids of a text; what stands between the marks of `base.chars` goes character by character."""
        ids = []
        for i, part in enumerate(_CHARS.split(text)):
            ids += self.sp.encode(part) if i % 2 == 0 else [self.sp.piece_to_id(c) for c in part]
        return ids

    def prompt(self, messages):
        """Ids for messages ({"role", "content"}), ready for the model's answer. System text goes into the first user turn."""
        ids, system = [config.BOS], ""
        for message in messages:
            if message["role"] == "system":
                system = message["content"] + "\n\n"
                continue
            role = self._model if message["role"] == "assistant" else self._user
            ids += role + self.sp.encode(system + message["content"]) + [self.end, self.newline]
            system = ""
        return ids + self._model

    def conversation(self, pairs, room):
        """(ids, target mask) of (user, model) pairs: the answers and their end marks are targets. Whole turns up to `room` tokens."""
        ids, target = [config.BOS], [0]
        for user, model in pairs:
            front = self._user + self.sp.encode(user) + [self.end, self.newline] + self._model
            answer = self._text(model) + [self.end]
            if len(ids) + len(front) + len(answer) + 1 > room:
                break
            ids += front + answer + [self.newline]
            target += [0] * len(front) + [1] * len(answer) + [0]
        return ids, target


if __name__ == "__main__":
    train()
