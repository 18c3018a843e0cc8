r"""What the normal form knows of Unicode and LaTeX, as tables of words; commands stand without their backslash."""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


def pairs(text: str) -> dict[str, str]:
    r"""Every other word by the one before it; a command gets the space that ends it."""
    found = text.split()
    return {
        one: two + " " if two[0] == "\\" and two[-1].isalpha() else two
        for one, two in zip(found[::2], found[1::2], strict=True)
    }


SYMBOLS = pairs(r"""
    − - – - — - ‐ - ‑ - ﹣ - × * · * ⋅ * ∙ * • * ∗ * ÷ / ⁄ / ∕ / ± \pm ∓ \mp ≤ \le ⩽ \le ≦ \le ≥ \ge ⩾ \ge ≧ \ge ≠ \ne
    ≈ \approx ≡ \equiv ∞ \infty ∪ \cup ∩ \cap ∈ \in ∅ \emptyset ⌀ \emptyset ∖ \setminus ℝ \mathbb{R} ℤ \mathbb{Z}
    ℕ \mathbb{N} ℚ \mathbb{Q} ℂ \mathbb{C} ⟨ \langle ⟩ \rangle 〈 \langle 〉 \rangle ⌊ \lfloor ⌋ \rfloor ⌈ \lceil
    ⌉ \rceil ∣ | ｜ | ∠ \angle △ \triangle → \to ⇒ \Rightarrow ′ ' ’ ' “ " ” " º ° ˚ ° ℃ °\text{C} ℉ °\text{F}
    、 , 。 . ， , ； ; ： : ∶ : （ ( ） ) … \dots ⋯ \dots ∧ \land ∨ \lor ￥ ¥ ∑ \sum ∫ \int
""")

GREEK = pairs(r"""
    α \alpha β \beta γ \gamma δ \delta ε \epsilon ζ \zeta η \eta θ \theta ι \iota κ \kappa λ \lambda μ \mu µ \mu ν \nu
    ξ \xi π \pi ρ \rho σ \sigma τ \tau υ \upsilon φ \varphi ϕ \phi χ \chi ψ \psi ω \omega Γ \Gamma Δ \Delta Θ \Theta
    Λ \Lambda Σ \Sigma Φ \Phi Ψ \Psi Ω \Omega
""")

FRACTIONS = pairs(
    "½ 1/2 ⅓ 1/3 ⅔ 2/3 ¼ 1/4 ¾ 3/4 ⅕ 1/5 ⅖ 2/5 ⅗ 3/5 ⅘ 4/5 ⅙ 1/6 ⅚ 5/6 ⅐ 1/7 ⅛ 1/8 ⅜ 3/8 ⅝ 5/8 ⅞ 7/8 ⅑ 1/9 ⅒ 1/10"
)
RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ", "0123456789+-ni", strict=True))
LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉ₙ", "0123456789n", strict=True))
INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
SPACES = "\u00a0\u2002\u2003\u2009\u200a\u202f\u3000\t\n\r"

RENAMED = pairs("""
    dfrac frac tfrac frac cfrac frac dbinom binom tbinom binom leq le leqslant le leqq le geq ge geqslant ge
    geqq ge neq ne infin infty rarr to rightarrow to longrightarrow to implies Rightarrow varnothing emptyset
    backslash setminus textbackslash setminus ldots dots cdots dots dotsc dots wedge land vee lor iff Leftrightarrow
    arctg arctan tg tan ctg cot arcctg arccot overleftrightarrow overline simeq approx
""")
REPLACED = pairs(r"""
    times * star * imath i cdot * cdotp * ast * div / lt <
    gt > lbrace \{ rbrace \} colon : mid | vert | lvert | rvert | Vert \|
    lVert \| rVert \| degree ° textdegree ° prime ' lbrack [ rbrack ] lparen ( rparen ) euro € texteuro € pounds £
    yen ¥ textdollar \$ dollar \$ percent % triangleq = coloneqq =
""")
SPACING = words("""
    blacksquare square Box checkmark qed displaystyle
    textstyle scriptstyle nobreak thinspace medspace enspace hfill newline
""")
DROPPED = words("""
    limits nolimits left right middle big Big bigg Bigg bigl bigr Bigl Bigr biggl biggr Biggl Biggr bf rm it
    large Large huge bold mathstrut null ang
""")
WORDED = words("text textbf textit textrm textsf texttt textup textnormal emph mathrm mbox hbox operatorname")
UNDRESSED = words("""
    mathbf mathit mathsf bm boldsymbol pmb underline boxed fbox framebox mathnormal mathord ensuremath mathop
    mathrel mathbin
""")
FUNCTIONS = words("""
    sin cos tan cot sec csc arcsin arccos arctan arccot sinh cosh tanh coth arsinh arcosh artanh ln log lg exp
    gcd lcm max min
""")
LETTERS = words("""
    alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau
    upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega ell hbar aleph
""")
PLAIN = {
    one: two.strip()
    for one, two in pairs(r"""
    sqrt \sqrt pi \pi inf \infty infinity \infty oo \infty theta \theta alpha \alpha beta \beta gamma \gamma
        cbrt \cbrt abs \abs floor \floor ceil \ceil asin \arcsin acos \arccos atan \arctan tg \tan ctg \cot
        arctg \arctan
    """).items()
}
"""Commands that are also written without their backslash."""
RELATIONS = words(r"""
    = < > \le \ge \ne \in \notin \equiv \approx \to \Rightarrow \Leftrightarrow \cong \subset \subseteq \land
    \lor \sim \propto \parallel \perp
""")
NOTHING = frozenset(
    f"{head}{tail}"
    for head in ("no ", "no real ", "no integer ", "there is no ", "there are no ", "no such ")
    for tail in ("solution", "solutions", "number", "numbers")
) | {"empty set", "the empty set", "无解", "空集"}
"""Ways to say that there is no solution."""
CHANGES_VALUE = words("""
    is are was be not no never isn t wrong false incorrect or and but if maybe hundred hundreds thousand
    thousands million millions billion billions trillion dozen dozens half halves third thirds quarter quarters
    fourth fourths fifth fifths sixth sixths tenth tenths squared cubed factorial over plus minus times divided
    mod modulo base to the power more less than least most at negative positive by of thrice twice double triple
    score through between choose sqrt pi nor neither either plusminus equal equals ones k thousandth thousandths
    hundredth hundredths because since as which where when unless except without cannot don doesn wait actually
    otherwise else elsewhere for instead
    rather approximately ish greater larger smaller fewer above below up down approx
""")
"""Words that make another number, or none, of the number before them."""
