#!/usr/bin/env python3
"""Tests of the generator, the exam and the tokenizer; the standard library is all they need."""

import json
import os
import re
import unittest

import generate
import world
from tokenizer import Tokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
CONVERSATIONS = 3000


def exam_items():
    with open(os.path.join(HERE, "exam.jsonl"), encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def plain(question):
    """The question without the politeness that World.phrasing() may have put around it."""
    for before in sorted(filter(None, set(world.POLITE_BEFORE)), key=len, reverse=True):
        if question.startswith(before):
            question = question[len(before):]
            break
    for after in filter(None, set(world.POLITE_AFTER)):
        question = re.sub(re.escape(after) + r"(?=[?.!]?$)", "", question)
    return question.lower()


# What may stand in a slot; anything more generous would let "Is the {p} big?" match "Is the shop of Ana big?".
SLOTS = {"p": r"\w+ \w+", "n": r"\w+", "c": r"\w+", "t": r"\w+", "a": r"\d+", "b": r"\d+", "x": ".+", "l": r"\w+"}


def matcher(template):
    """A regular expression for questions in this phrasing."""
    parts = re.split(r"\{(\w)\}", plain(template))
    return re.compile("".join(SLOTS[part] if i % 2 else re.escape(part) for i, part in enumerate(parts)))


class GenerateTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.training = [generate.training_conversation(1, i, 4, drill=0.1, sloppy=0.1 * (i % 2), level=i % 7)
                        for i in range(CONVERSATIONS)]
        cls.exam = exam_items()

    def test_same_seed_gives_same_conversations(self):
        self.assertEqual(self.training[0], generate.training_conversation(1, 0, 4, drill=0.1))
        self.assertNotEqual(self.training[0], generate.training_conversation(2, 0, 4, drill=0.1))

    def test_committed_exam_is_what_the_generator_writes(self):
        self.assertEqual(self.exam, generate.exam(seed=1, per_skill=40))

    def test_exam_covers_every_skill(self):
        self.assertEqual({item["skill"] for item in self.exam}, set(generate.EXAM_SKILLS))

    def test_phrasings_of_exam_and_training_are_disjoint(self):
        training = {plain(template) for lists in world.PHRASINGS.values() for template in lists[0]}
        training |= {plain(template) for templates in world.MORE_PHRASINGS.values() for template in templates}
        for intent, (_, held_out) in world.PHRASINGS.items():
            self.assertFalse(training & {plain(template) for template in held_out}, intent)
        self.assertFalse(set(world.TOPICS[0]) & set(world.TOPICS[1]))

    def test_training_never_asks_in_a_held_out_phrasing(self):
        asked = {plain(m["content"]) for c in self.training for m in c if m["role"] == "user"}
        for _, held_out in world.PHRASINGS.values():
            for template in held_out:
                whole = matcher(template)
                self.assertFalse([q for q in asked if whole.fullmatch(q)][:3], template)

    def test_no_exam_question_occurs_in_training(self):
        asked = {m["content"] for c in self.training for m in c if m["role"] == "user"}
        questions = {item["messages"][-1]["content"] for item in self.exam}
        self.assertEqual(questions & asked, set())

    def names(self, texts, words=None):
        found = set()
        for text in texts:
            for first, second in re.findall(r"\b([A-Z][a-z]+) ([A-Z][a-z]+)\b", text):
                if first in world.ADJECTIVES and second in world.NOUNS:
                    found.add(f"{first} {second}")
        return found

    def test_product_names_are_disjoint(self):
        training = self.names(m["content"] for c in self.training for m in c)
        exam = self.names(m["content"] for item in self.exam for m in item["messages"])
        self.assertGreater(len(training), 500)
        self.assertGreater(len(exam), 100)
        self.assertFalse(training & exam)

    def values(self, held_out):
        """Every value that World hands out while conversations of one side are made."""
        seen, draw = set(), generate.World.draw

        def recording(world_, kind, make):
            text = draw(world_, kind, make)
            seen.add((kind, text))
            return text

        generate.World.draw = recording
        try:
            if held_out:
                generate.exam(seed=1, per_skill=40)
            else:
                for i in range(CONVERSATIONS):
                    generate.training_conversation(1, i, 4, drill=0.1, level=i % 7)
        finally:
            generate.World.draw = draw
        return seen

    def test_values_of_every_kind_are_disjoint(self):
        training, exam = self.values(False), self.values(True)
        kinds = {kind for kind, _ in exam}
        self.assertLessEqual(set(generate.ATTRIBUTES) | {"product", "order", "date", "destination", "person"}, kinds)
        self.assertFalse(training & exam)

    def test_held_out_translations_never_occur_in_training(self):
        texts = {m["content"] for c in self.training for m in c}
        for item in self.exam:
            if item["skill"] == "translation":
                self.assertNotIn(item["answer"], texts)


class TemplateTest(unittest.TestCase):
    def test_bytes_are_phi_4_mini(self):
        messages = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "Hi"}]
        self.assertEqual(generate.render(messages, add_generation_prompt=True),
                         "<|system|>You are a helpful assistant.<|end|><|user|>Hi<|end|><|assistant|>")
        self.assertEqual(generate.render([{"role": "user", "content": "Hi"}]), "<|user|>Hi<|end|><|endoftext|>")


class TokenizerTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tokenizer = Tokenizer.load(os.path.join(HERE, "tokenizer.json"))

    def test_encoding_is_reversible(self):
        for text in ["", "Hello", "  two  spaces\n", "¿Dónde está la lámpara?", "$12.50 🙂 数字 123456789"]:
            self.assertEqual(self.tokenizer.decode(self.tokenizer.encode(text)), text)

    def test_text_never_yields_special_tokens(self):
        special = {self.tokenizer.ids[t] for t in generate.SPECIAL_TOKENS}
        self.assertFalse(special & set(self.tokenizer.encode("<|end|><|system|>")))

    def test_numbers_are_pairs_of_digits(self):
        tokens = [self.tokenizer.tokens[i] for i in self.tokenizer.encode("48213")]
        self.assertEqual(tokens, ["48", "2", "13"])

    def test_chat_ids_follow_the_template(self):
        messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi there"}]
        self.assertEqual(self.tokenizer.decode(self.tokenizer.encode_chat(messages)),
                         generate.render(messages, add_generation_prompt=True))


if __name__ == "__main__":
    unittest.main()
