"""Packed rows of training tokens, made by worker processes while the accelerator trains.

Batch i depends on the seed and on i alone, so a run sees the same data however many workers make it. Conversations of a row do not see each
other: `document` numbers them, and positions start at 0 in each.
"""

import multiprocessing
import random

import numpy as np

import config
from demo_data.conversation import Generator
from tokenizer import Tokenizer

IGNORE = -1


def make_batch(index, tokenizer, forbidden, rows=config.ROWS, row=config.ROW):
    """ids, labels (IGNORE where there is no target), positions, documents: int16 [rows, row]."""
    generator = Generator(random.Random(config.SEED * 1_000_003 + index), forbidden)
    ids = np.zeros((rows, row), np.int16)
    labels = np.full((rows, row), IGNORE, np.int16)
    positions = np.zeros((rows, row), np.int16)
    documents = np.zeros((rows, row), np.int16)
    for r in range(rows):
        at, number = 0, 0
        while row - at >= 24:
            room = row - at
            tokens, target = tokenizer.conversation(generator.conversation(room), room)
            n = len(tokens)
            if n == 1:  # not even the first turn fits
                break
            ids[r, at : at + n] = tokens
            positions[r, at : at + n] = np.arange(n)
            documents[r, at : at + n] = number
            labels[r, at : at + n - 1] = np.where(target[1:], tokens[1:], IGNORE)
            at, number = at + n, number + 1
        documents[r, at:] = number  # the padding is a document of its own, without targets
    return ids, labels, positions, documents


def _work(queue, first, stride, stop, forbidden):
    tokenizer = Tokenizer()
    for index in range(first, stop, stride):
        queue.put(make_batch(index, tokenizer, forbidden))


class Batches:
    """Iterates over batches 0 .. count-1 in order. Start it before the accelerator is touched: the workers are forked."""

    def __init__(self, count, forbidden, workers):
        context = multiprocessing.get_context("fork")
        self.count = count
        self.queues = [context.Queue(maxsize=8) for _ in range(workers)]
        for w, queue in enumerate(self.queues):
            context.Process(
                target=_work, args=(queue, w, workers, count, forbidden), daemon=True
            ).start()

    def __iter__(self):
        for index in range(self.count):
            yield self.queues[index % len(self.queues)].get()
