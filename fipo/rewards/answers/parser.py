r"""Recursive descent over a normalised formula (`fipo.rewards.answers.normal`).

    sum      product (("+" | "-" | "\pm" | "\mp") product)*
    product  sign (("*" | "/") sign | factor)*                neighbours are multiplied, numbers are not neighbours
    sign     ("+" | "-" | "\pm" | "\mp")* power
    power    atom ("^" exponent | "!" | "!!" | "°" | "%")*
    atom     number | mixed number | letter | \frac.. | \sqrt.. | \binom.. | function argument | group | |sum|
             | (\sum | \prod) "_{" letter "=" sum "}" ["^" exponent] product

Neighbouring numbers are a mixed number (`2\frac23`, `2 2/3`) or no formula: `3 3` is neither 9 nor 6 nor 33.
"""

from __future__ import annotations

import re
from fractions import Fraction

from fipo.rewards.answers.syntax import Apply, Node, Number, Symbol, Unreadable, symbols
from fipo.rewards.answers.tables import FUNCTIONS, LETTERS, PLAIN, words

MAX_DEPTH = 50
"""Deeper nesting is no answer of a human problem."""
MAX_TOKENS = 300
"""Nor is a longer formula; more would be more than the stack of the interpreter holds."""

_TOKEN = re.compile(
    r"\s*(?:(?P<derivative>\\frac\s*\{\s*d[^{}]{0,6}\}\s*\{\s*d\s*[A-Za-z][^{}]{0,6}\})"
    r"|(?P<number>\d+(?:\.\d*)?(?:[eE][+-]?\d{1,4}(?![\w.]))?|\.\d+)|(?P<text>\\text\{[^{}]*\})|(?P<command>\\[A-Za-z]+|\\[{}|])"
    r"|(?P<word>[A-Za-z]+)|(?P<symbol>!!|[-+*/^_!°%(){}\[\]|',=]))"
)
_RUNNING = words("sum prod int lim iint oint partial nabla")
_MARKED = words("angle triangle overline vec hat widehat overrightarrow bar tilde dot ddot")
_SINGLE_GROUP, _ONLY = re.compile(r"(?<=[\^_] )\{ (\S+) \}"), r"\1"
_CALLED = frozenset("fgh")
_CLOSING = {"(": ")", "[": "]", "{": "}", "\\{": "\\}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}
_MARKS = {"!": "factorial", "!!": "double factorial", "°": "degree", "%": "percent"}
_SIGNS = {"+", "-", "\\pm", "\\mp"}
WORD = 4
"""So many letters in a row are a word: of capitals one name whose letters keep their order, else prose and no formula.
Fewer are a product."""


def parse(text: str) -> Node:
    """The expression that all of `text` is.

    Raises:
        Unreadable: it is none.
    """
    tokens = _tokens(text)
    if len(tokens) > MAX_TOKENS:
        raise Unreadable("too long")
    parser = _Parser(tokens)
    node = parser.sum()
    if parser.peek():
        raise Unreadable(text)
    return node


def _tokens(text: str) -> list[str]:
    tokens, position = [], 0
    text = text.rstrip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            raise Unreadable(text)
        position = match.end()
        if match["word"]:
            tokens += _letters(match["word"])
        elif match["derivative"]:
            tokens.append("\\text" + "".join(match["derivative"].split()))
        elif match["text"]:
            tokens += _spoken(match["text"])
        else:
            tokens.append(match.group().strip())
    return tokens


def _letters(word: str) -> list[str]:
    """`sin` and `pi` are what they say, short runs are products, long ones names."""
    if word in PLAIN:
        return [PLAIN[word]]
    if word in FUNCTIONS:
        return ["\\" + word]
    for length in (6, 4, 3, 2):
        head, rest = word[:length], word[length:]
        if (head in FUNCTIONS or head in PLAIN) and len(rest) == 1:
            return [*_letters(head), rest]
        if rest in ("pi", "sqrt") and len(head) <= 2 and head.isalpha():
            return [*head, *_letters(rest)]
    if len(word) >= WORD and word.islower():
        raise Unreadable(f"{word}: prose")
    return [word] if len(word) >= WORD else list(word)


def _spoken(text: str) -> list[str]:
    inner = text[len(r"\text{") : -1].strip()
    if inner in FUNCTIONS or inner in PLAIN:
        return _letters(inner)
    return [inner] if len(inner) == 1 and inner.isalnum() else ["\\text" + inner]


class _Parser:
    def __init__(self, tokens: list[str]) -> None:
        self._tokens, self._at, self._depth = tokens, 0, 0
        self._numeral = False  # whether what was read last is a number or a letter: digits after it would be its own
        self._bars = 0  # how many `|` are open within the brackets
        self._bound: dict[str, str] = {}  # what sums run over, by its letter

    def peek(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._tokens[at] if at < len(self._tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise Unreadable(f"{token!r} for {expected!r}")
        self._at += 1
        return token

    def sum(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Unreadable("nested too deeply")
        node = self.product()
        while self.peek() in _SIGNS:
            operation = {"+": "+", "-": "-", "\\pm": "pm", "\\mp": "mp"}[self.take()]
            node = Apply(operation, (node, self.product()))
        self._depth -= 1
        return node

    def product(self) -> Node:
        node = self.sign()
        while True:
            if self.peek() in ("*", "/"):
                operation = self.take()
                node = Apply(operation, (node, self.sign()))
            elif self._starts_factor():
                self._refuse_neighbours()
                node = Apply("*", (node, self.power()))
            else:
                return node

    def sign(self) -> Node:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Unreadable("nested too deeply")
        try:
            if self.peek() in _SIGNS:
                sign = self.take()
                inner = self.sign()
                if sign == "+":
                    return inner
                return Apply("neg", (inner,)) if sign == "-" else Apply(sign[1:], (Number(Fraction(0)), inner))
            return self.power()
        finally:
            self._depth -= 1

    def power(self) -> Node:
        start = self._at
        node = self._atom()
        self._numeral = self._tokens[start][0].isalnum() or (
            self._tokens[start] == "{" and self._tokens[start + 1][0].isdigit() and isinstance(node, Number)
        )
        return self._postfix(node)

    def _postfix(self, node: Node) -> Node:
        while self.peek() == "^" or self.peek() in _MARKS:
            mark, self._numeral = self.take(), False
            node = Apply(_MARKS[mark], (node,)) if mark != "^" else Apply("^", (node, self._exponent()))
        return node

    def _exponent(self) -> Node:
        """`2^10` is 1024, as it is meant; `x^-1` and `e^\\frac12` are what they look like."""
        if self.peek() in ("+", "-"):
            return Apply("neg", (self._exponent(),)) if self.take() == "-" else self._exponent()
        if self.peek() == "*":
            raise Unreadable("^*")
        atom = self._atom(bare=True)
        return Apply("^", (atom, self._tower())) if self.peek() == "^" else atom

    def _tower(self) -> Node:
        self.take("^")
        return self._exponent()

    def _starts_factor(self) -> bool:
        token = self.peek()
        if not token:
            return False
        if token == "|":
            return not self._bars
        if token[0] == "\\":
            return token not in ("\\}", "\\rfloor", "\\rceil", "\\pm", "\\mp", "\\|")
        return token[0].isalnum() or token[0] == "." or token in ("(", "{", "[")

    def _refuse_neighbours(self) -> None:
        """A number right after a number would read as other digits of it, and `x2` may be `x_2`; words may be prose."""
        following = self.peek(1) if self.peek() == "{" else self.peek()
        if self._numeral and (following[:1].isdigit() or following[:1] == "."):
            raise Unreadable("neighbouring numbers")

    def _atom(self, *, bare: bool = False) -> Node:
        token = self.take()
        if token[0].isdigit() or token[0] == ".":
            if token == ".":
                raise Unreadable(token)
            number = Number(Fraction(token))
            return number if bare else self._mixed(number, token)
        if token in _CLOSING:
            return self._group(token)
        if token in ("|", "\\|"):
            return self._absolute(token)
        if token.startswith("\\text"):
            return self._subscripted(token[len("\\text") :])
        if token[0] == "\\":
            return self._command(token[1:])
        if token[0].isalpha():
            return self._letter(token)
        raise Unreadable(token)

    def _mixed(self, whole: Number, token: str) -> Node:
        """`2\\frac13`, `2 1/3`; a number in a base stays a name."""
        if self.peek() == "_":
            return Symbol(f"{token}_{self._subscript()}")
        if not token.isdigit():
            return whole
        if self.peek() == "\\frac":
            start = self._at
            self.take()
            parts = self._argument(), self._argument()
            if all(isinstance(part, Number) and part.value.denominator == 1 for part in parts):
                top, bottom = (part.value for part in parts if isinstance(part, Number))
                if 0 < top < bottom:
                    return Number(whole.value + top / bottom)
            self._at = start
        elif self.peek().isdigit() and self.peek(1) == "/" and self.peek(2).isdigit():
            top, bottom = Fraction(self.take()), Fraction(self.take("/") and self.take())
            if not 0 < top < bottom:
                raise Unreadable("neighbouring numbers")
            return Number(whole.value + top / bottom)
        return whole

    def _group(self, opening: str) -> Node:
        bars, self._bars = self._bars, 0
        node = self.sum()
        self._bars = bars
        if self.peek() == "," and opening in ("(", "{"):
            raise Unreadable("a list")
        self.take(_CLOSING[opening])
        if opening in ("\\lfloor", "\\lceil"):
            return Apply({"\\lfloor": "floor", "\\lceil": "ceil"}[opening], (node,))
        return node

    def _absolute(self, bar: str) -> Node:
        self._bars += 1
        node = self.sum()
        self.take(bar)
        self._bars -= 1
        return Apply("abs", (node,))

    def _argument(self) -> Node:
        r"""What follows `\frac` or `\sqrt`: a group, or as in TeX one digit or letter."""
        token = self.peek()
        if token[:1].isdigit() and len(token) > 1:
            self._tokens[self._at : self._at + 1] = [token[0], token[1:]]
        return self._atom(bare=True)

    def _command(self, name: str) -> Node:
        if name == "frac":
            return Apply("/", (self._argument(), self._argument()))
        if name == "binom":
            return Apply("binom", (self._argument(), self._argument()))
        if name in ("sqrt", "cbrt"):
            return self._root(name)
        if name in ("abs", "floor", "ceil"):
            return Apply(name, (self._argument(),))
        if name in FUNCTIONS:
            return self._function(name)
        if name in ("pi", "infty"):
            return Symbol(name)
        if name in LETTERS:
            return self._subscripted("\\" + name)
        if name in ("sum", "prod") and self._tokens[self._at : self._at + 2] == ["_", "{"] and self.peek(3) == "=":
            return self._running(name)
        if name in _MARKED:
            return self._subscripted(self._marked(name))
        if name in _RUNNING:
            return self._opaque(name)
        raise Unreadable(name)

    def _root(self, name: str) -> Node:
        if name == "cbrt":
            return Apply("root", (self._argument(), Number(Fraction(3))))
        if self.peek() != "[":
            return Apply("sqrt", (self._argument(),))
        self.take("[")
        degree = self.sum()
        self.take("]")
        return Apply("root", (self._argument(), degree))

    def _function(self, name: str) -> Node:
        base: Node | None = None
        exponent: Node | None = None
        while self.peek() in ("_", "^"):
            if self.take() == "_":
                base = self._argument()
            else:
                exponent = self._exponent()
        argument = self._function_argument(name)
        if name in ("tanh", "coth"):  # as quotients, so that their distance from 1 is seen
            argument = tuple(Apply(one, argument) for one in (("sinh", "cosh") if name == "tanh" else ("cosh", "sinh")))
            name = "/"
        if name == "log" and base is not None:
            node: Node = Apply("log_base", (*argument, base))
        elif base is not None:
            raise Unreadable(name)
        else:
            node = Apply(name, argument)
        if exponent is None:
            return node
        if exponent == Apply("neg", (Number(Fraction(1)),)) and name in ("sin", "cos", "tan", "cot"):
            return Apply("arc" + name, argument)
        return Apply("^", (node, exponent))

    def _function_argument(self, name: str) -> tuple[Node, ...]:
        if self.peek() == "(":
            self.take()
            arguments = [self.sum()]
            while self.peek() == "," and name in ("gcd", "lcm", "max", "min"):
                self.take()
                arguments.append(self.sum())
            self.take(")")
            return tuple(arguments)
        node = self.sign()
        while self._starts_factor() and self.peek() != "(" and self.peek()[1:] not in FUNCTIONS:
            self._refuse_neighbours()
            node = Apply("*", (node, self.power()))
        return (node,)

    def _letter(self, token: str) -> Node:
        number = self.peek() == "(" and self.peek(1)[:1].isdigit() and self.peek(2) == ")"
        if self.peek() == "(" and (token in _CALLED or (token.isupper() and number)):
            self.take()
            arguments = [self.sum()]
            while self.peek() == ",":
                self.take()
                arguments.append(self.sum())
            self.take(")")
            return Apply(f"call:{token}", tuple(arguments))
        return self._subscripted(token)

    def _subscripted(self, name: str) -> Node:
        if name in self._bound:
            return Symbol(self._bound[name])
        if self.peek() == "_" and not self._bound.keys().isdisjoint(self._tokens[self._at + 1 :]):
            start = self._at
            self.take("_")
            index = self._atom(bare=True)
            if any(one[0] == "#" for one in symbols(index)):  # `a_k`, where `k` is what the sum runs over
                return Apply(f"call:{name}_", (index,))
            self._at = start
        while self.peek() in ("_", "'"):
            name += "'" if self.peek() == "'" and self.take() else f"_{self._subscript()}"
        return Symbol(name)

    def _subscript(self) -> str:
        self.take("_")
        if self.peek() != "{":
            return self.take()
        return self._braced()

    def _braced(self) -> str:
        """The text of a group in braces, its tokens side by side."""
        self.take("{")
        depth, parts = 1, list[str]()
        while True:
            token = self.take()
            depth += (token == "{") - (token == "}")
            if not depth:
                return " ".join(parts) if len(parts) > 1 else "".join(parts)
            parts.append(token)

    def _running(self, name: str) -> Node:
        """A sum or product, whatever the letter that it runs over is."""
        if len(self._bound) > 1:
            raise Unreadable("sums within sums")
        self.take("_")
        self.take("{")
        letter = self._letters_only(self.take())
        self.take("=")
        low = self.sum()
        self.take("}")
        high = self._exponent() if self.peek() == "^" and self.take() else Symbol("infty")
        outer, self._bound = self._bound, {**self._bound, letter: f"#{len(self._bound) + 1}"}
        body = self.product()
        self._bound = outer
        return Apply(f"{name} {len(outer) + 1}", (low, high, body))

    @staticmethod
    def _letters_only(token: str) -> str:
        if not token.isalpha():
            raise Unreadable(token)
        return token

    def _opaque(self, name: str) -> Node:
        """What is not computed, an integral or a limit, is a name that takes all that follows."""
        rest = self._tokens[self._at :]
        self._at = len(self._tokens)
        if not rest or self._depth > 2:
            raise Unreadable(name)
        return Symbol(f"\\{name} {_SINGLE_GROUP.sub(_ONLY, ' '.join(rest))}")

    def _marked(self, name: str) -> str:
        r"""`\angle ABC`, `\overline{AB}`: a name."""
        if self.peek() == "{":
            return f"\\{name}{{{self._braced()}}}"
        letters = []
        while self.peek()[:1].isalpha():
            letters.append(self.take())
        if not letters:
            raise Unreadable(name)
        return f"\\{name} {''.join(letters)}"
