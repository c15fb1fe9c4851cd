#!/usr/bin/env python3
"""Writes train.jsonl, held_out.jsonl and words.jsonl from the templates and hand-written prompts in source/.

A family is one way of asking, in seven languages. Families are divided by a hash of their name: three in ten of
each class are held out, whole, in all languages; plain and adversarial ones separately, so that both files have both.
Hand-written prompts are families of one. Values for slots are divided too, so that no passage, name or snippet is
in both files. Everything is drawn from generators seeded by family and language: the files are the same on
every machine, and a change to one family leaves the others alone.
"""
import hashlib
import json
import pathlib
import random
import re
import sys
import unicodedata

HERE = pathlib.Path(__file__).resolve().parent
LANGUAGES = ["en", "es", "de", "id", "vi", "th", "zh"]
CLASSES = ["math_reasoning", "code_generation", "creative_writing", "translation", "summarisation", "extraction",
           "product_question", "general_conversation"]
PROMPTS_A_FAMILY = 5  # and language; fewer where the templates do not give as many
VOCABULARY_PROMPTS = 28  # the same for a family of vocabulary.txt, which has many words to show
# Names that are words of the language, not content: nobody asks whether "Ruby" is recognised unseen.
SHARED_SLOTS = {"proglang", "framework", "lang", "place", "errname", "table", "person", "item"}
HELD_OUT = 0.3  # the share that is held out

# What people put around a request, whatever it is.
BEFORE = {
    "en": ["Hi, ", "Hello! ", "Hey, ", "Quick question: ", "Sorry to bother you. ", "Good morning. "],
    "es": ["Hola, ", "¡Buenas! ", "Oye, ", "Una pregunta: ", "Perdona. ", "Buenos días. "],
    "de": ["Hallo, ", "Hi! ", "Kurze Frage: ", "Entschuldigung, ", "Guten Morgen. ", "Moin, "],
    "id": ["Halo, ", "Hai! ", "Mau tanya: ", "Maaf ganggu. ", "Selamat pagi. ", "Kak, "],
    "vi": ["Chào bạn, ", "Xin chào! ", "Cho hỏi: ", "Xin lỗi làm phiền. ", "Chào buổi sáng. ", "Ad ơi, "],
    "th": ["สวัสดีครับ ", "สวัสดีค่ะ ", "ขอถามหน่อย ", "รบกวนหน่อยนะ ", "หวัดดี "],
    "zh": ["你好，", "您好！", "请问，", "不好意思打扰一下。", "早上好。"],
}
AFTER = {
    "en": [" Thanks!", " Thank you.", " thx", " It is urgent.", " Take your time."],
    "es": [" ¡Gracias!", " Muchas gracias.", " Es urgente.", " Sin prisa."],
    "de": [" Danke!", " Vielen Dank.", " Es ist dringend.", " Eilt nicht."],
    "id": [" Terima kasih!", " Makasih ya.", " Ini mendesak.", " Tidak buru-buru."],
    "vi": [" Cảm ơn!", " Cảm ơn nhiều.", " Gấp lắm.", " Không vội đâu."],
    "th": [" ขอบคุณครับ", " ขอบคุณค่ะ", " ด่วนมาก", " ไม่รีบ"],
    "zh": [" 谢谢！", "谢谢。", "很急。", "不着急。"],
}


def digest(text):
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def held_out_part(values):
    """The values of a list that belong to the exam: the lowest hashes, a share of HELD_OUT."""
    ordered = sorted(values, key=digest)
    return set(ordered[:max(1, round(len(values) * HELD_OUT))])


def read_slots():
    slots = {}
    for number, line in enumerate((HERE / "source/slots.txt").read_text().splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        match = re.match(r"(\w+) (\*|\w\w): (.*)", line)
        if not match:
            sys.exit(f"slots.txt:{number}: not 'name language: value | value'")
        name, language, values = match.groups()
        slots[name, language] = [v.replace("\\n", "\n").replace("\\t", "\t") for v in values.split(" | ")]
    return slots


class Family:
    def __init__(self, task, name, flags):
        self.task, self.name = task, name
        self.complex = "complex" in flags
        self.adversarial = "adversarial" in flags
        self.templates = {language: [] for language in LANGUAGES}
        self.held_out = False
        self.prompts = PROMPTS_A_FAMILY


def read_family_file(name, task=None):
    families = []
    for number, line in enumerate((HERE / "source" / name).read_text().splitlines(), 1):
        if line.startswith("= "):
            title, *flags = line[2:].split()
            title = f"{task}/{title}" if task else title
            families.append(Family(title.split("/")[0], title, flags))
        elif line and not line.startswith("#"):
            language, _, templates = line.partition(" ")
            if language not in LANGUAGES or not families or families[-1].task not in CLASSES:
                sys.exit(f"{name}:{number}: no language, or no family of a known class above")
            families[-1].templates[language] += templates.split(" || ")
    return families


def read_families():
    families = []
    for task in CLASSES:
        families += read_family_file(f"{task}.txt", task)
        for adversarial in (False, True):
            group = [f for f in families if f.task == task and f.adversarial == adversarial]
            if group:
                exam = held_out_part([f.name for f in group])
                for family in group:
                    family.held_out = family.name in exam
    vocabulary = read_family_file("vocabulary.txt")
    for family in vocabulary:
        family.name = f"vocabulary/{family.name}"
        family.prompts = VOCABULARY_PROMPTS
    return families + vocabulary


def read_hand_written():
    """(task, language, text, context, complex, held out) of each line under "= task language"."""
    prompts = []
    for number, line in enumerate((HERE / "source/hand_written.txt").read_text().splitlines(), 1):
        if line.startswith("= "):
            task, language = line[2:].split()
            if task not in CLASSES or language not in LANGUAGES:
                sys.exit(f"hand_written.txt:{number}: unknown class or language")
        elif line and not line.startswith("#"):
            is_complex = line.startswith("~ ")
            text = line.removeprefix("~ ").replace("\\n", "\n")
            context, _, text = text.rpartition(" >> ")
            prompts.append((task, language, text, context, is_complex))
    exam = held_out_part([p[2] for p in prompts])
    return [(*p, p[2] in exam) for p in prompts]


def read_words():
    words = []
    for number, line in enumerate((HERE / "source/words.txt").read_text().splitlines(), 1):
        if line.startswith("#"):
            continue
        match = re.fullmatch(r"(\w+) (\w\w): (.+)", line)
        if not match or match[1] not in CLASSES or match[2] not in LANGUAGES:
            sys.exit(f"words.txt:{number}: not 'class language: word | word'")
        words.append((match[1], match[2], match[3].split(" | ")))
    return words


class Writer:
    """Fills templates for one family and language."""

    def __init__(self, slots, language, held_out, snippets, seed):
        self.slots, self.language, self.held_out, self.snippets = slots, language, held_out, snippets
        self.rng = random.Random(seed)
        self.used = {}
        self.left = {}

    def value(self, name):
        rng = self.rng
        if name == "n":
            return str(rng.randint(3, 97))
        if name == "d":
            return str(rng.randint(3, 9))
        if name == "p":
            return str(rng.choice([5, 8, 10, 12, 15, 20, 25, 30, 45]))
        if name == "big":
            return str(rng.choice([rng.randint(110, 999), rng.randint(1000, 9999), 50 * rng.randint(3, 200)]))
        if name == "xphrase":  # a sentence of another language
            other = rng.choice([x for x in LANGUAGES if x != self.language])
            values = self.slots["phrase", other]
        else:
            values = self.slots.get((name, self.language)) or self.slots.get((name, "*"))
            if values is None:
                sys.exit(f"no values for {{{name}}} in {self.language}")
        if name in SHARED_SLOTS:
            return rng.choice(values)
        exam = held_out_part(values)
        if self.snippets and name in ("passage", "record"):
            # What to do with a text is the point here, and short ones show it as well.
            values = [re.split(r"(?<=[.。:：]) ?", v)[0][:90] for v in values if v not in exam]
            exam = set()
        side = [v for v in values if (v in exam) == self.held_out]
        fresh = [v for v in side if v not in self.used.setdefault(name, set())]
        value = rng.choice(fresh or side)  # two {phrase}s of one prompt differ
        self.used[name].add(value)
        return value

    def next_of(self, group):
        """The words of [a|b|c] in turn, shuffled anew each round, so that each is used about as often."""
        left = self.left.setdefault(group, [])
        if not left:
            left += self.rng.sample(group.split("|"), len(group.split("|")))
        return left.pop()

    def fill(self, template):
        self.used = {}
        template = template.replace("\\n", "\n")
        template = re.sub(r"\[([^\[\]]*\|[^\[\]]*)\]", lambda m: self.next_of(m.group(1)), template)
        return re.sub(r"\{([a-z]+)\}", lambda m: self.value(m.group(1)), template)

    def roughen(self, text):
        """As people type: a greeting, thanks, no capitals, no accents."""
        rng, language = self.rng, self.language
        # Training sees more of it, so that a greeting does not make conversation of a request.
        if rng.random() < (0.15 if self.held_out else 0.3):
            text = rng.choice(BEFORE[language]) + text
        if rng.random() < (0.12 if self.held_out else 0.2):
            text += rng.choice(AFTER[language])
        if rng.random() < 0.10:
            text = text.lower().rstrip(".?!。？")
        if language in ("es", "de", "vi") and rng.random() < 0.08:
            plain = unicodedata.normalize("NFD", text).replace("đ", "d").replace("Đ", "D")
            text = "".join(c for c in plain if not unicodedata.combining(c))
        return text


def shingles(text):
    """Every five letters in a row, without case, digits and punctuation."""
    letters = re.sub(r"[\W\d_]+", " ", text.lower()).strip()
    return {letters[i:i + 5] for i in range(max(1, len(letters) - 4))}


def generate():
    slots = read_slots()
    files = {False: [], True: []}
    seen = set()
    exam = []  # (language, shingles) of what is held out
    dropped = 0

    def resembles_exam(language, text):
        """Whether most of a prompt for training is in one prompt of the exam, or the other way round: the same thing
        written down twice, as a hand-written prompt and as a template."""
        mine = shingles(text)
        return any(len(mine & theirs) > 0.6 * min(len(mine), len(theirs))
                   for other, theirs in exam if other == language and 3 * len(mine) > len(theirs))

    def emit(held_out, text, task, language, family, is_complex, adversarial=False, context=""):
        nonlocal dropped
        if (text, context) in seen:
            return False
        seen.add((text, context))
        if held_out:
            exam.append((language, shingles(text)))
        elif not context and resembles_exam(language, text):
            dropped += 1
            return False
        line = {"text": text, "class": task, "language": language, "family": family}
        if context:
            line["context"] = context
        if is_complex:
            line["complex"] = True
        if adversarial:
            line["adversarial"] = True
        files[held_out].append(json.dumps(line, ensure_ascii=False, separators=(",", ":")))
        return True

    hand_written = read_hand_written()
    for task, language, text, context, is_complex, held_out in hand_written:
        if held_out:
            name = f"hand/{language}/{digest(text) % 10**8:08}"
            emit(True, text, task, language, name, is_complex, context=context)
    for family in sorted(read_families(), key=lambda f: not f.held_out):
        for language, templates in family.templates.items():
            if not templates:
                sys.exit(f"{family.name} has no template in {language}")
            writer = Writer(slots, language, family.held_out, family.name.startswith("vocabulary/"), f"{family.name} {language}")
            made = 0
            for attempt in range(4 * family.prompts):
                text = writer.roughen(writer.fill(templates[attempt % len(templates)]))
                made += emit(family.held_out, text, family.task, language, family.name, family.complex,
                             family.adversarial)
                if made == family.prompts:
                    break
    for task, language, text, context, is_complex, held_out in hand_written:
        if not held_out:
            name = f"hand/{language}/{digest(text) % 10**8:08}"
            emit(False, text, task, language, name, is_complex, context=context)
    print(f"{dropped} prompts for training dropped, since one that is held out is much the same")
    return files


def main():
    files = generate()
    for held_out, name in ((False, "train.jsonl"), (True, "held_out.jsonl")):
        (HERE / name).write_text("\n".join(files[held_out]) + "\n")
        print(f"{name}: {len(files[held_out])} prompts")
    lines = [json.dumps({"class": task, "language": language, "words": words}, ensure_ascii=False)
             for task, language, words in read_words()]
    (HERE / "words.jsonl").write_text("\n".join(lines) + "\n")


main()
