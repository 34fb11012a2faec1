#!/usr/bin/env python3
"""Makes the quickstart's tasks out of its evaluation text.

    quickstart_tasks.py TEXT FOLDER

continuations.jsonl asks which of four passages of the text goes on where the context stops: the
context is 24 words of a paragraph, the right choice its next 8, the others are the same words of
other paragraphs. last-words.jsonl asks for the last word of a sentence after the sentence itself and
up to 24 words before it. Both take the text in order and nothing is drawn.
"""
import json
import os
import re
import sys

CONTEXT, CHOICE, CHOICES = 24, 8, 4
BEFORE, SHORTEST, LONGEST = 24, 10, 30


def continuations(paragraphs):
    passages = []
    for words in paragraphs:
        for start in range(0, len(words) - CONTEXT - CHOICE + 1, 2 * (CONTEXT + CHOICE)):
            middle = start + CONTEXT
            passages.append((" ".join(words[start:middle]),
                             " " + " ".join(words[middle:middle + CHOICE])))
    for index, (context, right) in enumerate(passages):
        gold = index % CHOICES
        # Others from a distance, so that they are not about the same thing.
        step = len(passages) // CHOICES
        others = [passages[(index + step * (i + 1)) % len(passages)][1]
                  for i in range(CHOICES - 1)]
        choices = others[:gold] + [right] + others[gold:]
        assert len(set(choices)) == CHOICES
        yield {"id": str(index), "requests": [[context, choice] for choice in choices],
               "gold": gold}


def last_words(paragraphs):
    index = 0
    for words in paragraphs:
        start = 0
        for end, word in enumerate(words):
            if not re.fullmatch(r"[A-Za-z]+[.!?]", word) or word in ("Mr.", "Mrs.", "St."):
                continue
            if SHORTEST <= end - start <= LONGEST:
                context = " ".join(words[max(0, start - BEFORE):end])
                yield {"id": str(index), "requests": [[context, " " + word[:-1]]], "gold": 0}
                index += 1
            start = end + 1


def main():
    path, folder = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        paragraphs = [line.split() for line in file if line.strip()]
    for name, items in (("continuations", continuations(paragraphs)),
                        ("last-words", last_words(paragraphs))):
        with open(os.path.join(folder, name + ".jsonl"), "w", encoding="utf-8") as file:
            for item in items:
                file.write(json.dumps(item, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
