#!/usr/bin/env python3
"""Training conversations and the held-out exam for the Tandem demo model.

The world is a small shop. A conversation is a list of {"role", "content"} messages; the reference answer
to every question is a function of the system prompt and the history, so that it can be judged by exact
match and not by taste. Everything is drawn from a `random.Random` seeded with a string, so conversation
number N of a stream is the same on every machine.

Held out: product names, attribute values, order numbers, dates, destinations, people and phrasings are each
divided in two by a hash of their text ("product:Amber Kettle"). Training draws from one half, the exam from the
other; `pick_side()` is the only place that decides. Held-out values are built from words and digits that do
occur in training, because the exam measures looking up and copying, not guessing at unknown words.

The module needs nothing outside Python's standard library.
"""

import argparse
import hashlib
import json
import random

from world import *  # the word lists and phrasings; kept apart because they are data

SPECIAL_TOKENS = [
    "<|endoftext|>", "<|assistant|>", "<|end|>", "<|user|>", "<|system|>", "<|tool|>", "<|/tool|>",
    "<|tool_call|>", "<|/tool_call|>", "<|tool_response|>",
]

# One value in eight is kept for the exam.
HELD_OUT_ONE_IN = 8


def pick_side(kind, text):
    """True if `text` belongs to the exam's side of the division for this kind of thing."""
    digest = hashlib.sha256(f"{kind}:{text}".encode()).digest()
    return digest[0] % HELD_OUT_ONE_IN == 0


def render(messages, add_generation_prompt=False):
    """The Phi-4-mini chat format: no newline, no BOS, nothing trimmed."""
    text = "".join(f"<|{m['role']}|>{m['content']}<|end|>" for m in messages)
    return text + ("<|assistant|>" if add_generation_prompt else "<|endoftext|>")


class World:
    """Draws things from one side of the division. `held_out` is False for training, True for the exam. `level` is
    how far training has come: from 1 with the second set of phrasings, from 2 with more kinds of invented names and
    more questions whose answer is no, from 3 with conversations that do nothing but look things up, from 4 with
    fewer of them, and those with more orders and lists, from 5 with more invented places and facts that are missing,
    from 6 with conversations about where the shop ships."""

    def __init__(self, rng, held_out, level=0):
        self.rng = rng
        self.held_out = held_out
        self.level = level

    def draw(self, kind, make):
        # Rejection sampling keeps the rule in one place. Each kind has thousands of values, or (destinations)
        # a list long enough for both sides to be populated.
        while True:
            text = make()
            if pick_side(kind, text) == self.held_out:
                return text

    def product(self):
        return self.draw("product", lambda: f"{self.rng.choice(ADJECTIVES)} {self.rng.choice(NOUNS)}")

    def value(self, attribute):
        return self.draw(attribute, lambda: VALUE_MAKERS[attribute](self.rng))

    def order_number(self):
        return self.draw("order", lambda: str(self.rng.randint(10000, 99999)))

    def date(self):
        return self.draw("date", lambda: f"{self.rng.randint(1, 28)} {self.rng.choice(MONTHS)}")

    def destination(self):
        if not self.held_out and self.rng.random() < (0.6 if self.level >= 5 else 0.3):
            # Invented places teach copying a name letter by letter, so that an unknown country works too.
            return self.draw("destination", lambda: invented_name(self.rng, self.level))
        return self.draw("destination", lambda: self.rng.choice(DESTINATIONS))

    def person(self):
        if self.held_out or self.rng.random() < 0.3:
            return self.draw("person", lambda: self.rng.choice(PEOPLE))
        return self.draw("person", lambda: invented_name(self.rng, self.level))

    def phrasing(self, intent):
        """A template from the training list or from the held-out list, with free politeness around it."""
        if self.level and intent in MORE_PHRASINGS and self.rng.random() < 0.5:
            text = self.rng.choice(MORE_PHRASINGS[intent])
        else:
            text = self.rng.choice(PHRASINGS[intent][1 if self.held_out else 0])
        if intent in BARE_INTENTS:
            return text
        before = self.rng.choice(POLITE_BEFORE)
        after = self.rng.choice(POLITE_AFTER)
        if before and not text.startswith(("I ", "I'", "{")):
            text = text[0].lower() + text[1:]
        if after == " please" and text[-1] in ".?!":
            return before + text[:-1] + after + text[-1]
        return before + text + ("" if after == " please" else after)


def invented_name(rng, level=0):
    if level >= 2 and rng.random() < 0.6:
        # Two halves of real words: tokens that syllables never give, and that an unknown country may consist of.
        while True:
            first, second = rng.choice(SPLICED_PLACES if level >= 5 else SPLICED), rng.choice(SPLICED)
            if level >= 6 and rng.random() < 0.15:
                return rng.choice(list(LANGUAGES.values())) + second[rng.randint(0, len(second) - 1):]
            name = first[:rng.randint(1, len(first))] + second[rng.randint(0, len(second) - 1):]
            if 4 <= len(name) <= 10:
                return name.capitalize()
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 4))).capitalize()


def number_in(rng, low, high):
    """Uniform in the number of digits first: otherwise short numbers hardly ever occur."""
    digits = rng.randint(len(str(low)), len(str(high)))
    return rng.randint(max(low, 10 ** (digits - 1)), min(high, 10 ** digits - 1))


SPLICED = PEOPLE + TOPICS[0] + NOUNS + [d for d in DESTINATIONS if not pick_side("destination", d)]

# "German" starts translations as well as Germany; names that begin like a language teach to tell them apart.
SPLICED_PLACES = SPLICED + [d for d in DESTINATIONS if not pick_side("destination", d)] + list(LANGUAGES.values()) * 4

VALUE_MAKERS = {
    "price": lambda r: f"${number_in(r, 1, 999)}.{r.choice(['00', '50', '90', '95', '99', f'{r.randint(0, 99):02d}'])}",
    "colour": lambda r: r.choice(COLOUR_TONES) + " " + r.choice(COLOURS),
    "stock": lambda r: str(number_in(r, 1, 999)),
    "weight": lambda r: f"{r.randint(1, 39)}.{r.randint(1, 99):02d} kg",
    "warranty": lambda r: f"{r.randint(2, 99)} months",
    "material": lambda r: r.choice(FINISHES) + " " + r.choice(MATERIALS),
    "size": lambda r: f"{r.randint(2, 99)} by {r.randint(2, 99)} cm",
}
ATTRIBUTES = list(VALUE_MAKERS)

ANSWERS = {
    "price": "The {p} costs {v}.",
    "colour": "The {p} is {v}.",
    "stock": "The {p} is in stock: {v} left.",
    "weight": "The {p} weighs {v}.",
    "warranty": "The {p} has a warranty of {v}.",
    "material": "The {p} is made of {v}.",
    "size": "The {p} measures {v}.",
}
NO_STOCK = "The {p} is out of stock."
NOT_LISTED = "The catalogue does not say that about the {p}."
UNKNOWN_PRODUCT = "The {p} is not in our catalogue."
HAVE = "Yes, we have the {p}."
NO_CATALOGUE = "I have no catalogue at hand."

# What the shop does where the system prompt does not say otherwise.
DEFAULT_POLICY = {"days": "5", "cost": "$4.50", "window": "30"}


class Scene:
    """What one system prompt says, and the text that says it."""

    def __init__(self, world, max_products, kind, min_products=1, listed=0.75):
        rng = self.rng = world.rng
        self.world = world
        self.dense = min_products > 1
        self.shipping = False
        self.products = {}      # name -> {attribute: value}
        self.orders = {}        # number -> (status, date, product)
        self.ships_to = None    # list of destinations, or None: anywhere
        self.policy = dict(DEFAULT_POLICY)
        sections = []
        if kind == "none":
            self.system = None
            return
        if "catalogue" in kind:
            self.draw_products(rng.randint(min_products, max_products), listed)
            sections.append(self.catalogue_text())
        if "orders" in kind:
            for _ in range(rng.randint(1, max(2, min(3, max_products)))):
                self.orders[world.order_number()] = (rng.choice(STATUSES), world.date(), world.product())
            sections.append(self.orders_text())
        if "policy" in kind:
            sections.append(self.policy_text())
        intro = rng.choice(INTROS)
        if "{shop}" in intro:
            intro = intro.replace("{shop}", invented_name(rng))
        rng.shuffle(sections)
        self.system = "\n".join(([intro] if intro else []) + sections)

    def draw_products(self, count, listed_share):
        rng = self.rng
        used = set()
        while len(self.products) < count:
            name = self.world.product()
            words = set(name.split())
            # Mostly distinct words; sometimes two products share one, and then both words matter.
            if words & used and rng.random() < 0.8 or name in self.products:
                continue
            used |= words
            listed = [a for a in ATTRIBUTES if rng.random() < listed_share] or [rng.choice(ATTRIBUTES)]
            rng.shuffle(listed)
            self.products[name] = {
                a: "0" if a == "stock" and rng.random() < 0.25 else self.world.value(a) for a in listed
            }

    def catalogue_text(self):
        rng = self.rng
        head, line, fact, between, tail = rng.choice(LAYOUTS[1] if self.world.held_out and rng.random() < 0.25
                                                     else LAYOUTS[0])
        lines = []
        for name, facts in self.products.items():
            words = []
            for attribute, value in facts.items():
                if fact is None:  # prose
                    words.append(rng.choice(PROSE[attribute]).replace("{v}", value))
                else:
                    words.append(fact.format(k=rng.choice(LABELS[attribute]), v=value))
            lines.append(line.format(p=name) + between.join(words) + tail)
        return head + "\n" + "\n".join(lines)

    def orders_text(self):
        head, line = self.rng.choice(ORDER_LAYOUTS)
        return head + "\n" + "\n".join(
            line.format(n=number, p=product, s=STATUS_TEXT[status].format(d=date))
            for number, (status, date, product) in self.orders.items())

    def policy_text(self):
        rng, world = self.rng, self.world
        lines = []
        if rng.random() < 0.7:
            self.ships_to = []
            for _ in range(rng.randint(1, 4)):
                place = world.destination()
                if place not in self.ships_to:
                    self.ships_to.append(place)
            places = self.ships_to
            text = places[0] if len(places) == 1 else ", ".join(places[:-1]) + " and " + places[-1]
            lines.append(rng.choice(POLICY_LINES["ships_to"]).format(v=text))
        if rng.random() < 0.7:
            self.policy["days"] = world.draw("days", lambda: str(rng.randint(2, 60)))
            lines.append(rng.choice(POLICY_LINES["days"]).format(v=self.policy["days"]))
        if rng.random() < 0.7:
            self.policy["cost"] = world.draw("cost", lambda: f"${rng.randint(1, 49)}.{rng.randint(0, 19) * 5:02d}")
            lines.append(rng.choice(POLICY_LINES["cost"]).format(v=self.policy["cost"]))
        if rng.random() < 0.7 or not lines:
            self.policy["window"] = world.draw("window", lambda: str(rng.randint(5, 99)))
            lines.append(rng.choice(POLICY_LINES["window"]).format(v=self.policy["window"]))
        rng.shuffle(lines)
        return "\n".join(lines)


class Asker:
    """Asks the questions of one conversation. Each skill returns (skill, question, answer)."""

    def __init__(self, world, scene):
        self.world = world
        self.rng = world.rng
        self.scene = scene
        self.asked = set()
        self.topic = None  # the product that "it" means: the last one the assistant named as ours

    def about(self, name, attribute, followup=False):
        facts = self.scene.products[name]
        question = self.world.phrasing("it_" + attribute if followup else attribute)
        if attribute not in facts:
            answer = NOT_LISTED.format(p=name)
        elif attribute == "stock" and facts["stock"] == "0":
            answer = NO_STOCK.format(p=name)
        else:
            answer = ANSWERS[attribute].format(p=name, v=facts[attribute])
        self.topic = name
        return question.replace("{p}", name), answer

    def product(self):
        name = self.rng.choice(list(self.scene.products))
        facts = self.scene.products[name]
        listed = self.rng.random() < (0.92 if self.world.level < 5 else 0.85) or len(facts) == len(ATTRIBUTES)
        attribute = self.rng.choice([a for a in ATTRIBUTES if (a in facts) == listed])
        return ("product", *self.about(name, attribute))

    def followup(self):
        facts = self.scene.products[self.topic]
        listed = self.rng.random() < (0.92 if self.world.level < 5 else 0.85) or len(facts) == len(ATTRIBUTES)
        attribute = self.rng.choice([a for a in ATTRIBUTES if (a in facts) == listed])
        return ("followup", *self.about(self.topic, attribute, followup=True))

    def lookup(self):
        """A listed fact that was not asked for yet: nothing in the history gives it away."""
        left = [(name, a) for name, facts in self.scene.products.items() for a in facts if (name, a) not in self.asked]
        if not left:
            return self.product()
        fact = self.rng.choice(left)
        self.asked.add(fact)
        return ("product", *self.about(*fact))

    def have(self):
        name = self.rng.choice(list(self.scene.products))
        self.topic = name
        return "product", self.world.phrasing("have").replace("{p}", name), HAVE.format(p=name)

    def unknown(self):
        while True:
            name = self.world.product()
            if name not in self.scene.products:
                break
        intent = self.rng.choice(ATTRIBUTES + ["have"] * 2)
        self.topic = None
        return "unknown", self.world.phrasing(intent).replace("{p}", name), UNKNOWN_PRODUCT.format(p=name)

    def listing(self):
        names = ["the " + n for n in self.scene.products]
        self.topic = None
        if not names:
            return "list", self.world.phrasing("list"), NO_CATALOGUE
        text = names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]
        return "list", self.world.phrasing("list"), f"We have {text}."

    def order(self):
        self.topic = None
        number = self.rng.choice(list(self.scene.orders))
        status, date, product = self.scene.orders[number]
        if self.rng.random() < 0.25:
            return ("order", self.world.phrasing("order_item").replace("{n}", number),
                    f"Order {number} contains the {product}.")
        return ("order", self.world.phrasing("order").replace("{n}", number),
                ORDER_ANSWERS[status].format(n=number, d=date))

    def unknown_order(self):
        self.topic = None
        while True:
            number = self.world.order_number()
            if number not in self.scene.orders:
                break
        return "order", self.world.phrasing("order").replace("{n}", number), f"I cannot find order {number}."

    def ship_to(self):
        places = self.scene.ships_to
        if places and self.rng.random() < 0.55:
            place, yes = self.rng.choice(places), True
        else:
            place = self.world.destination()
            yes = places is None or place in places
        answer = f"Yes, we ship to {place}." if yes else f"No, we do not ship to {place}."
        return "shipping", self.world.phrasing("ship_to").replace("{c}", place), answer

    def ship_days(self):
        return "shipping", self.world.phrasing("ship_days"), f"Delivery takes {self.scene.policy['days']} days."

    def ship_cost(self):
        return "shipping", self.world.phrasing("ship_cost"), f"Shipping costs {self.scene.policy['cost']}."

    def return_window(self):
        return ("returns", self.world.phrasing("return_window"),
                f"You can return an item within {self.scene.policy['window']} days.")

    def return_how(self):
        return "returns", self.world.phrasing("return_how"), RETURN_HOW

    def greeting(self):
        if self.rng.random() < 0.5:
            name = self.world.person()
            return "smalltalk", self.world.phrasing("hello_name").replace("{n}", name), \
                f"Hello {name}! How can I help you?"
        return "smalltalk", self.world.phrasing("hello"), "Hello! How can I help you?"

    def smalltalk(self):
        intent = self.rng.choice(["thanks", "bye", "who"])
        return "smalltalk", self.world.phrasing(intent), SMALLTALK[intent]

    def refusal(self):
        if not self.world.held_out and self.rng.random() < 0.1:
            # Word salad: what fits no skill is refused, not guessed at.
            words = [self.rng.choice([invented_name(self.rng).lower(), self.rng.choice(TOPICS[0])])
                     for _ in range(self.rng.randint(2, 6))]
            return "refusal", " ".join(words) + self.rng.choice(["?", ".", ""]), REFUSAL
        topic = self.rng.choice(TOPICS[1 if self.world.held_out else 0])
        question = self.world.phrasing("refusal").replace("{t}", topic)
        if "{a}" in question:
            question = question.replace("{a}", str(number_in(self.rng, 2, 999)))
            question = question.replace("{b}", str(number_in(self.rng, 2, 999)))
        return "refusal", question, REFUSAL

    def drill(self):
        """Repeating what was said: not a skill of the exam. It gives copying, which every look-up ends in, a lesson
        of its own with a signal in every token."""
        makers = [self.world.product, self.world.order_number, self.world.date, self.world.destination,
                  lambda: self.world.value(self.rng.choice(ATTRIBUTES)), lambda: str(number_in(self.rng, 1, 999))]
        text = ", ".join(self.rng.choice(makers)() for _ in range(self.rng.randint(1, 4)))
        return "drill", self.rng.choice(DRILL) + text, text

    def translation(self):
        source, target = self.rng.choice(DIRECTIONS)
        frame, noun = self.phrase()
        texts = {language: fill(frame, noun, language) for language in LANGUAGES}
        question = self.world.phrasing("translate").replace("{x}", texts[source])
        return "translation", question.replace("{l}", LANGUAGES[target]), texts[target]

    def phrase(self):
        """A sentence frame and a noun (None for a fixed phrase). Combinations are what is held out."""
        if not self.world.held_out and self.rng.random() < 0.25:
            return self.rng.choice(FIXED_PHRASES), None
        while True:
            frame, noun = self.rng.choice(FRAMES), self.rng.choice(TRANSLATED_NOUNS)
            if pick_side("phrase", frame["en"] + noun["en"]) == self.world.held_out:
                return frame, noun


def fill(frame, noun, language):
    if noun is None:
        return frame[language]
    entry = noun[language]
    if isinstance(entry, str):
        forms = {"n": entry}
    else:
        article, word = entry
        forms = {"n": word, **ARTICLES[language][article]}
    text = frame[language].format(**forms)
    return text[0].upper() + text[1:] if text[0] not in "¿" else "¿" + text[1].upper() + text[2:]


# Weights of the skills, at level 0 and later; a skill that the scene cannot serve is left out.
SKILLS = [
    ("product", 10, 9), ("followup", 4, 3.5), ("have", 0.7, 1.2), ("unknown", 1.6, 3), ("listing", 0.7, 0.8),
    ("order", 3.5, 3), ("unknown_order", 0.7, 1), ("ship_to", 1.6, 3), ("ship_days", 0.7, 0.7), ("ship_cost", 0.7, 0.7),
    ("return_window", 0.7, 0.7), ("return_how", 0.25, 0.4), ("smalltalk", 0.5, 0.5), ("refusal", 1.4, 1.2),
    ("translation", 2.8, 4),
]

SCENES = [  # what the system prompt holds, and how often
    ("none", 2.0), ("catalogue", 5.0), ("catalogue+orders", 1.2), ("catalogue+policy", 1.2), ("orders", 1.2),
    ("orders+policy", 0.4), ("policy", 1.2), ("catalogue+orders+policy", 0.6),
]


# In conversations of look-ups only. Telling four products apart is the hardest thing to learn here, and a mixed
# conversation hardly asks for it: half of its product questions can be answered from an earlier answer.
DENSE_SKILLS = [  # weights at level 3 and later
    ("lookup", 10, 10), ("followup", 1.5, 1.5), ("unknown", 1.5, 1.5), ("listing", 0.4, 1.4), ("order", 3, 4),
    ("unknown_order", 0.5, 1),
]
SHIPPING_SKILLS = [
    ("ship_to", 10), ("order", 3), ("unknown_order", 0.5), ("ship_days", 0.5), ("ship_cost", 0.5), ("return_window", 0.5),
    ("translation", 1.5), ("refusal", 0.5),
]
SHIPPING_SHARE = 0.45
DENSE_SHARE = {3: 0.6, 4: 0.5, 5: 0.5, 6: 0.5}
DENSE_SCENES = {3: ["catalogue"] * 3 + ["catalogue+orders"], 4: ["catalogue", "catalogue+orders"], 5: ["catalogue", "catalogue+orders"],
                6: ["catalogue", "catalogue+orders"]}


def possible_skills(scene, asker):
    missing = set()
    if not scene.products:
        missing |= {"product", "followup", "have"}
    if asker.topic is None:
        missing.add("followup")
    if not scene.orders:
        missing |= {"order", "unknown_order"} if scene.dense else {"order"}
    level = asker.world.level
    if scene.shipping:
        return [(name, weight) for name, weight in SHIPPING_SKILLS if name not in missing]
    if scene.dense:
        return [(name, late if level >= 4 else early) for name, early, late in DENSE_SKILLS if name not in missing]
    weights = {name: late if level else early for name, early, late in SKILLS if name not in missing}
    if level >= 2 and scene.ships_to:
        weights["ship_to"] *= 2.5 if level < 5 else 4
    if level >= 2 and scene.products:
        weights["unknown"] *= 1.5
    return list(weights.items())


# Skills whose answer does not depend on the question's capitals, apart from names on our own lists.
CASUAL_SKILLS = {"product", "followup", "unknown", "list", "order", "returns", "refusal", "shipping"}


def casual(rng, skill, question, answer):
    """The question as people type it: small letters, often without the final mark."""
    if skill not in CASUAL_SKILLS:
        return question
    if skill == "shipping" and " to " in answer and answer.split()[-1].rstrip(".") not in DESTINATIONS:
        return question  # an invented place: nobody could know its spelling
    question = question.lower()
    return question.rstrip("?.!") if rng.random() < 0.7 else question


def conversation(rng, held_out=False, max_products=4, turns=8, drill=0.0, sloppy=0.0, level=0):
    """Returns (messages, skills): one skill name per assistant message. `drill` is the share of copying drills,
    `sloppy` that of questions in small letters; for `level` see World."""
    world = World(rng, held_out, level)
    kinds, weights = zip(*SCENES)
    if level >= 6 and rng.random() < SHIPPING_SHARE:
        scene = Scene(world, max_products, rng.choice(["policy", "orders+policy"]))
        scene.shipping = scene.ships_to is not None
    elif level >= 3 and rng.random() < DENSE_SHARE[level]:
        scene = Scene(world, max_products, rng.choice(DENSE_SCENES[level]), min_products=2, listed=0.5)
        turns += 3
    else:
        scene = Scene(world, max_products, rng.choices(kinds, weights)[0])
    asker = Asker(world, scene)
    messages = [] if scene.system is None else [{"role": "system", "content": scene.system}]
    skills = []
    if scene.system is None:
        turns = max(2, turns // 2)
    for turn in range(turns):
        if turn == 0 and rng.random() < (0.2 if level else 0.12):
            skill, question, answer = asker.greeting()
        elif drill and rng.random() < drill:
            skill, question, answer = asker.drill()
        else:
            names, weights = zip(*possible_skills(scene, asker))
            skill, question, answer = getattr(asker, rng.choices(names, weights)[0])()
        if sloppy and rng.random() < sloppy:
            question = casual(rng, skill, question, answer)
        messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        skills.append(skill)
    return messages, skills


def training_conversation(seed, index, max_products, drill=0.0, sloppy=0.0, level=0):
    """Conversation `index` of the endless training stream of `seed`."""
    rng = random.Random(f"train/{seed}/{index}")
    return conversation(rng, False, max_products, turns=rng.randint(6, 9), drill=drill, sloppy=sloppy, level=level)[0]


EXAM_SKILLS = ["product", "followup", "unknown", "list", "order", "shipping", "returns", "smalltalk", "refusal",
               "translation"]


def exam(seed, per_skill):
    """Held-out questions, `per_skill` of each skill, each at the end of a conversation of up to four turns."""
    items, count = [], {skill: 0 for skill in EXAM_SKILLS}
    index = 0
    while min(count.values()) < per_skill:
        rng = random.Random(f"exam/{seed}/{index}")
        index += 1
        messages, skills = conversation(rng, held_out=True, turns=rng.randint(1, 4))
        skill = skills[-1]
        if count[skill] == per_skill:
            continue
        items.append({"id": f"{skill}-{count[skill]:03d}", "skill": skill, "messages": messages[:-1],
                      "answer": messages[-1]["content"]})
        count[skill] += 1
    items.sort(key=lambda item: item["id"])
    return items


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--exam", metavar="FILE", help="write the exam")
    parser.add_argument("--per-skill", type=int, default=40)
    parser.add_argument("--show", type=int, metavar="N", help="print N training conversations")
    args = parser.parse_args()
    if args.exam:
        with open(args.exam, "w", encoding="utf-8") as out:
            for item in exam(args.seed, args.per_skill):
                out.write(json.dumps(item, ensure_ascii=False) + "\n")
    for index in range(args.show or 0):
        print(render(training_conversation(args.seed, index, 4)).replace("<|end|>", "<|end|>\n"), "\n")


if __name__ == "__main__":
    main()
