"""Everyday and competition spellings of one answer, and the forms in which public test sets give theirs."""

import pytest

from fipo.outcome import Outcome
from fipo.rewards.math import verify

SPELLINGS = r"""
14, | 14
=14 | 14
14; | 14
\approx 14 | 14
≈14 | 14
: 14 | 14
14\,. | 14
"14" | 14
14\ . | 14
\$14.00 | 14
USD 14 | 14
14 USD | 14
14円 | 14
₹14 | 14
14 °C | 14
14^\circ\text{C} | 14
14 sq. ft | 14
14\text{ square units} | 14
14\text{ sq cm} | 14
14 \frac{\text{m}}{\text{s}} | 14
14 \text{m/s}^2 | 14
14\text{ m}\cdot\text{s}^{-1} | 14
14 ft^2 | 14
14cm² | 14
14 cm^2 | 14
14 cubic meters | 14
14米 | 14
14 千克 | 14
14个 | 14
14 people | 14
14\% | 14
14\text{ percent} | 14\%
14¢ | 14
14~\text{kg} | 14
14 hours | 14
2.5E4 | 25000
2.5×10⁴ | 25000
2.5x10^4 | 25000
2.5 \cdot 10^{4} | 25000
3'000 | 3000
3 000 | 3000
3\ 000 | 3000
3{,}000 | 3000
3,000 | 3000
3,000.50 | 3000.5
2 1/2 | 2.5
2\ 1/2 | 2.5
2\,\frac{1}{2} | 2.5
2\tfrac12 | 2.5
2½ | 2.5
2 ½ | 2.5
-1\frac{1}{2} | -1.5
0.(6) | 2/3
0.\dot{6} | 2/3
0.\dot6 | 2/3
0.\overline{142857} | 1/7
0.\overline{6}... | 2/3
1.\overline{3} | 4/3
0.1\bar{6} | 1/6
.5 | 0.5
1e3 | 1000
1E-3 | 0.001
10^{-3} | 0.001
+5 | 5
4(7) | 28
(4)7 | 28
(4)\cdot(7) | 28
4\ast 7 | 28
4 x 7 | 28
4\star 7 | 28
2^{2}\cdot 7 | 28
(2)(2)(7) | 28
2^5 | 32
2^{5} | 32
2**5 | 32
2*3*4 | 24
3!*2 | 12
2+5j | 2+5j
\sqrt{-1} | i
5i+2 | 2+5i
2 + 5 \, \mathrm{i} | 2+5i
\frac{1}{i} | -i
e^{i\pi} | -1
\imath | i
2+5\imath | 2+5i
3\sqrt{-2} | 3i\sqrt2
\sqrt{2}i | i\sqrt{2}
i\sqrt 2 | \sqrt{-2}
(1+i)(1-i) | 2
(D) | D
D. 14 | D
D: 14 | D
D) 14 | D
(D): 14 | D
\text{D. 14} | D
\text{(D) } 14 | D
\textbf{(D) }14 | D
\mathbf{(D)}\ 14 | D
\textbf{D} | D
\text{Option D} | D
Option (D) | D
\textbf{(D)}~\frac{1}{2} | D
\textbf{(D)}~\frac{1}{2} | 0.5
(D) none of these | D
D. none of the above | D
(D)\;14 | D
\{x \in \mathbb{R} : x>5\} | (5,\infty)
\{x | x \ge 5\} | [5,\infty)
\{x: 1<x<2\} | (1,2)
\{ x \in \mathbb{R} \mid 1 \le x \le 2 \} | [1,2]
x>5 | (5,\infty)
x \in (5, \infty) | (5,\infty)
(5,+\infty) | (5,\infty)
(5, ∞) | (5,\infty)
\left<4,9\right> | (4,9)
<4,9> | (4,9)
\langle 4, 9 \rangle | (4,9)
\begin{pmatrix}4\\9\end{pmatrix} | (4,9)
\begin{bmatrix}4\\9\end{bmatrix} | \begin{pmatrix}4\\9\end{pmatrix}
\binom{4}{9} | \binom{4}{9}
\vec{v} = (4,9) | (4,9)
[4,9] | [4,9]
\{4\} | 4
\left\{4,9\right\} | 4,9
\lbrace 4,9 \rbrace | 4,9
4\text{ and }9 | 4,9
4 and 9 | 4,9
4, and 9 | 4,9
4; 9 | 4,9
4、9 | 4,9
x=4, y=9 | x=4,y=9
(x,y)=(4,9) | (4,9)
(4, 9) | (4,9)
A=\{1,2\} | \{1,2\}
\emptyset | \varnothing
∅ | \emptyset
\{\} | \emptyset
\text{no solution} | \emptyset
\text{DNE} | DNE
\{x \mid x<-1\} \cup \{x \mid x>1\} | (-\infty,-1)\cup(1,\infty)
(-\infty,-1) \cup (1,+\infty) | (-\infty,-1)\cup(1,\infty)
x<-1 or x>1 | (-\infty,-1)\cup(1,\infty)
|x|>1 | |x|>1
]5,\infty[ | (5,\infty)
\mathbf{14} | 14
\bf 14 | 14
{\bf 14} | 14
\textbf{14} | 14
\Large 14 | 14
\mbox{14} | 14
\text{14} | 14
\texttt{14} | 14
\left.14\right. | 14
\hspace{1mm}14 | 14
\ensuremath{14} | 14
$14$ | 14
\(14\) | 14
\displaystyle 14 | 14
\underline{\underline{14}} | 14
\color{red}{14} | 14
{\color{red}14} | 14
\colorbox{yellow}{14} | 14
14 \mod 5 | 14
14 \bmod 5 | 14
14 (\text{mod } 5) | 14
14\pmod{5} | 14
14 (mod 5) | 14
\boldsymbol{14} | 14
\tag{1} 14 | 14
14 \blacksquare | 14
14 \quad\square | 14
14\checkmark | 14
14\\ | 14
\\14 | 14
x=14 | 14
x = 14 | 14
n=14\text{ cm} | 14
\text{Area}=14 | 14
\text{Total: } 14 | 14
\text{The answer is } 14 | 14
S = 14 | 14
f(3)=14 | 14
\angle ABC = 14^\circ | 14
P(A) = \frac12 | 0.5
a_{10}=14 | 14
|AB|=14 | 14
AB=14 | 14
\overline{AB} = 14 | 14
2+12=14 | 14
7\cdot 2 = 14 | 14
x+y=14 | 14
x \approx 14 | 14
x=\sqrt{2}\approx 1.414 | \sqrt{2}
\sqrt{2}\approx 1.414 | \sqrt{2}
\frac{a}{b}=14 | 14
x\equiv 14\pmod{15} | 14
90^\circ | 90
\frac{\pi}{2}\text{ rad} | \frac{\pi}{2}
\frac{\pi}{2} radians | \pi/2
\sin^2\theta+\cos^2\theta | 1
\frac{\sqrt{3}}{3} | \frac{1}{\sqrt{3}}
\sqrt[3]{2} | 2^{1/3}
\frac{1}{2}\ln 2 | \ln\sqrt{2}
\log_2 3 | \frac{\ln 3}{\ln 2}
\log 2 | \ln 2
2^{n}-1 | -1+2^n
(-1)^{n+1} | -(-1)^n
\frac{n!}{(n-1)!} | n
\frac{(2n)!}{n!n!} | \binom{2n}{n}
{n \choose 2} | \frac{n(n-1)}{2}
C_n^2 | C_n^2
x^{2}+3x+2 | (x+1)(x+2)
-\frac{x}{2} | \frac{-x}{2}
\arctan 1 | \frac{\pi}{4}
\tan^{-1}(1) | \pi/4
10\sqrt{3}+\sqrt4 | 10\sqrt3+\sqrt{4}
\frac34i | \frac{3}{4}i
6\sqrt{2}\text{ units} | 6\sqrt2
\pi r^2 | r^2\pi
4\pi\text{ cm}^2 | 4\pi
36\pi \text{ square inches} | 36\pi
5:3 | 5:3
5 : 3 | 5:3
5 \text{ to } 3 | 5:3
10:06 \text{ a.m.} | 10:06 AM
3:30 pm | 3:30 PM
\frac{3}{4} : \frac{1}{2} | 3:2
1{,}000{,}000 | 1000000
1 000 000 | 1000000
10^6 | 1,000,000
1 million | 1000000
\$1.5 million | 1500000
-\infty | -\infty
\infty | +\infty
\text{infinity} | \infty
\max(1,2) | 2
\gcd(12, 18) | 6
0 | 0
-0 | 0
00012 | 12
\text{Friday} | Friday
Friday. | Friday
\text{even} | even
\text{True} | true
\left(\frac{1}{2},3\right) | (0.5,3)
(1,2,3) | (1, 2, 3)
(3, \frac{\pi}{2}) | (3,\pi/2)
(1,2),(3,4) | (3,4),(1,2)
\frac{x+2}{7} | (x+2)/7
p-q | p - q
3\sqrt{13} | \sqrt{117}
y = 2x + 3 | y=2x+3
2x+3 | y=2x+3
f(x)=2x+3 | 2x+3
y-2x-3=0 | y=2x+3
\text{Evelyn} | Evelyn
\text{June 20} | June 20
\text{east} | east
52_8 | 52_{8}
2516_8 | 2516_8
\text{(A)} | A
\dfrac{9}{256} | \frac{9}{256}
\frac{9}{256} | 9/256
x \le 5 | (-\infty,5]
\left[-2,7\right] | [-2,7]
-2 \le x \le 7 | [-2,7]
\begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix} | \begin{pmatrix} 1/5 \\ -18/5 \end{pmatrix}
\sqrt{51} | \sqrt{51}
1 \pm \sqrt{19} | 1+\sqrt{19},1-\sqrt{19}
6 - 5i | 6-5i
\frac{3}{56} | 3/56
5.4 \text{ cents} | 5.4
\$32,\!348 | 32348
r=6 | 6
\text{odd} | \text{odd}
3R^2 | 3R^2
\{-2,1\} | 1,-2
x=3\text{ or }x=5 | 3,5
a=1,b=2 | a=1, b=2
k\pi, k\in\mathbb{Z} | k\pi, k \in \mathbb{Z}
\frac{\pi}{2}+k\pi | k\pi+\frac{\pi}{2}
2^{1009} | 2^{1009}
n \ge 3 | n\geq 3
\text{all } n \ge 3 | \text{all } n\geq 3
\mathbb{R} | \mathbb R
(n,m)=(1,2) | (1,2)
e^{\frac{1}{2}} | \sqrt{e}
\frac{e^2-1}{2} | \frac{e^{2}-1}{2}
f(x)=x+c | f(x)=x+c
\lfloor \frac{n}{2} \rfloor | \left\lfloor \frac{n}{2}\right\rfloor
\frac{\sqrt{2}}{2} | \sin 45^\circ
\cos 60^{\circ} | 0.5
0\le x\le 1\text{ or }x=2 | [0,1]\cup\{2\}
\sqrt{5+2\sqrt{6}} | \sqrt{2}+\sqrt{3}
\frac{2025!}{2025} | 2024!
e^{\frac{2\pi i}{3}} | -\frac12+\frac{\sqrt3}{2}i
\begin{cases}x=2\\y=3\end{cases} | x=2,y=3
"""
"""An answer and an equal reference on each line."""

REFERENCES = r"""
\left( 3, \frac{\pi}{2} \right)
p - q
\frac{14}{3}
9
\text{Evelyn}
42
27
90^\circ
3\sqrt{13}
4
2220
\frac{3}{56}
284
5
\sqrt{51}
6 - 5i
-50
\pi
28
\frac{1}{64}
(-\infty, 1] \cup [3, \infty)
11\sqrt2
(0,9) \cup (9,36)
\{1\pm\sqrt{5},-2\}
\left[ \frac{\pi^2}{8}, \frac{5 \pi^2}{4} \right]
\begin{pmatrix} -\frac{1}{3} & \frac{2}{3} \\ 5/3 & 1 \end{pmatrix}
x^3+3x-6
y = 2x + 3
\text{(C)}
4210_{5}
11,\! 111,\! 111,\! 100
\$36
8\%
10\text{ cm}
6+9i
k^{2}-k+1
2^{1009}-1
\frac{n(n+1)(2n+1)}{6}
$k \geq 2$
(n, n+1, n+2)
$f(x)=0$ and $f(x)=x^2$
$(1,1),(2,3)$
$\frac{1}{2}\left(1+\sqrt{5}\right)$
$n=3^{k}, k \in \mathbb{N}$
$\left\lfloor\frac{n}{2}\right\rfloor+1$
$2^{n}-\binom{n}{2}$
$\sqrt[3]{2}+\sqrt[3]{4}$
$\frac{\ln 2}{\ln 3}$
$e^{-1/2}$
$-\frac{1}{4}, 1$
$x \in(-\infty,-2) \cup(0,2)$
$a=b=c$
$\cos \frac{\pi}{7}$
$7 \cdot 10^{3}$
$ABCD$
$\angle A=60^{\circ}$
$x_{1}=4, x_{2}=-3$
$\left\{\frac{1}{2}, 2\right\}$
$\log _{2} 3$
$5:3$
$3^{n-1}$ for $n \geq 1$
1,234
1.5
1,000,000
540
033
204
73,682
no
2x(x-1)
18\sqrt{3}\pi
"""


@pytest.mark.parametrize("line", SPELLINGS.strip().splitlines())
def test_spellings_are_accepted(line):
    answer, reference = line.rsplit(" | ", 1)
    assert verify(rf"Thus \boxed{{{answer}}}", reference) is Outcome.CORRECT


@pytest.mark.parametrize("reference", REFERENCES.strip().splitlines())
def test_references_accept_themselves_and_nothing_added(reference):
    assert verify(rf"Thus \boxed{{{reference}}}", reference) is Outcome.CORRECT
    assert verify(rf"Thus \boxed{{{reference} + 1}}", reference) is not Outcome.CORRECT
    assert verify(rf"Thus \boxed{{2 - {reference}}}", reference) is not Outcome.CORRECT
