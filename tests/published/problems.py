"""Word problems in the manner of GSM8K, made here: small numbers, two steps, and a worked answer."""

import json
import random

NAMES = ("Ana", "Ben", "Chloe", "Dev", "Ella", "Finn", "Grace", "Hugo", "Ines", "Jonas", "Kira", "Liam", "Mona", "Noah")
THINGS = ("apples", "pencils", "marbles", "stickers", "cards", "shells", "coins", "cookies", "books", "buttons")


def _gives(name, thing, a, b, c):
    left = a + b - c
    return (
        f"{name} has {a} {thing} and buys {b} more. Then {name} gives {c} to a friend. How many {thing} are left?",
        f"{a} + {b} = {a + b}. {a + b} - {c} = {left}.",
        left,
    )


def _packs(name, thing, a, b, c):
    total = a * b + c
    return (
        f"{name} fills {a} boxes with {b} {thing} each, and {c} {thing} do not fit. How many {thing} does {name} have?",
        f"{a} * {b} = {a * b}. {a * b} + {c} = {total}.",
        total,
    )


def _days(name, thing, a, b, c):
    total = a * b - c
    return (
        f"Every day {name} finds {b} {thing}. After {a} days {name} loses {c} of them. How many {thing} remain?",
        f"{a} * {b} = {a * b}. {a * b} - {c} = {total}.",
        total,
    )


def problems(count, *, seed):
    """Rows with `prompt`, `answer` and `response`; no two alike."""
    draw = random.Random(seed)
    made: dict[str, dict[str, str]] = {}
    while len(made) < count:
        kind = draw.choice((_gives, _packs, _days))
        prompt, work, answer = kind(
            draw.choice(NAMES), draw.choice(THINGS), draw.randint(2, 9), draw.randint(2, 9), draw.randint(1, 3)
        )
        made[prompt] = {
            "prompt": prompt,
            "answer": str(answer),
            "response": f"{work} The answer is \\boxed{{{answer}}}.",
        }
    return list(made.values())


def write(path, rows):
    """As JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def digits(response):
    """A reward of RL's tests: the share of digits among the characters."""
    return sum(letter.isdigit() for letter in response.text) / max(1, len(response.text))
