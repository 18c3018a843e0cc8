from fipo.data.overlap import BenchmarkIndex, Template, split_words

NONE = Template([], [])
DAPO = (
    "Solve the following math problem step by step. The last line of your response should be of the form "
    "Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n{}\n\n"
    'Remember to put your answer on its own line after "Answer:".'
)


def overlaps(index, words, template):
    [(_, found)] = index.judge([(None, words)], template)
    return bool(found)


def test_words_are_numbers_letters_and_operators_in_lower_case():
    assert split_words(r"Let $x^2 + \frac{1}{2}=Y$.") == ["let", "x", "^", "2", "+", "frac", "1", "2", "=", "y"]
    assert split_words("3 + 4") != split_words("3 - 4")
    assert split_words("求 x 的值") == ["求", "x", "的", "值"]
    assert split_words("Ｆｕｌｌ １２") == ["full", "12"]


def test_overlap_is_n_consecutive_words():
    index = BenchmarkIndex(5)
    index.add(split_words("a b c d e f"), NONE)
    assert overlaps(index, split_words("x y b c d e f z"), NONE)
    assert not overlaps(index, split_words("a b c d x e f"), NONE)
    assert not overlaps(index, split_words("b c d e"), NONE)


def test_shorter_than_n_words_overlaps_when_equal():
    index = BenchmarkIndex(13)
    index.add(split_words("what is 3 + 4"), NONE)
    assert overlaps(index, split_words("what is 3 + 4"), NONE)
    assert not overlaps(index, split_words("what is 3 + 5"), NONE)
    assert not overlaps(index, split_words("tell me what is 3 + 4"), NONE)


def test_short_problems_are_found_in_another_wrapping():
    index = BenchmarkIndex(13)
    index.add(["solve", "3", "+", "4", "please"], Template(["solve"], ["please"]))
    assert overlaps(index, ["3", "+", "4"], NONE)
    assert overlaps(index, ["compute", "3", "+", "4"], Template(["compute"], []))
    assert not overlaps(index, ["compute", "3", "+", "5"], Template(["compute"], []))


def test_template_is_what_all_problems_share():
    problems = [split_words(DAPO.format(f"{name} has {n} apples")) for n, name in enumerate("abcdefghij")]
    template = Template.common(problems)
    assert len(template.prefix) == 31 and template.prefix[:3] == ["solve", "the", "following"]
    assert template.suffix[:3] == ["apples", "remember", "to"]
    assert template.strip(problems[3]) == ["d", "has", "3"]
    assert template.strip(["another", "problem"]) == ["another", "problem"]


def test_odd_rows_do_not_hide_the_template():
    problems = [["what", "is", str(n), "please"] for n in range(95)] + [["is", "it", str(n)] for n in range(5)]
    assert Template.common(problems) == Template(["what", "is"], ["please"])
    assert Template.common([["what", "is", str(n)] if n % 4 else ["is", "it", str(n)] for n in range(100)]) == NONE


def test_few_problems_may_be_alike_by_chance():
    problems = [["what", "is", str(n)] for n in range(9)]
    assert Template.common(problems) == NONE


def test_the_instruction_around_each_problem_is_no_overlap():
    """Both data sets of the DAPO authors repeat 40 words in every prompt."""
    topics = split_words("circle square triangle cube sphere cone line plane prime root")
    benchmark = [
        f"{topic} number {n}: what has it in common with each and every other {topic}" for n, topic in enumerate(topics)
    ]
    train = [f"Let there be {n} cats; how many legs have they and all their kittens together?" for n in range(30)]
    in_benchmark = [split_words(DAPO.format(problem)) for problem in benchmark]
    in_train = [split_words(DAPO.format(problem)) for problem in [*train, benchmark[7]]]
    index = BenchmarkIndex(13)
    for words in in_benchmark:
        index.add(words, Template.common(in_benchmark))
    template = Template.common(in_train)
    assert [overlaps(index, words, template) for words in in_train] == [False] * 30 + [True]
    assert overlaps(index, split_words(f"Tell me this. {benchmark[7]}, and why?"), NONE)


def test_benchmark_problems_that_differ_in_a_number_only():
    benchmark = [split_words(f"If one adds {n} to the number of legs of a cat, what is the sum") for n in range(20)]
    template, index = Template.common(benchmark), BenchmarkIndex(13)
    for words in benchmark:
        index.add(words, template)
    assert [template.strip(words) for words in benchmark[:2]] == [["0"], ["1"]]
    assert overlaps(index, ["again", *benchmark[3], "really"], NONE)
    assert not overlaps(index, split_words("If one adds 20 to the number of legs of a cat, what is the sum"), NONE)


STOCK = "where m and n are relatively prime positive integers. Find m+n"
TOPICS = [
    "A fair coin is tossed until heads come twice in a row, and the expected number of tosses",
    "Triangle ABC has sides 13, 14 and 15, and the radius of the circle through its vertices",
    "Urn one holds seven white balls; two are drawn blindly. The chance of equal colours",
    "Let x solve cos 3x + sin 2x = 1 in the first quadrant. The sum of such solutions over pi",
    "Six frogs jump among lily pads arranged as hexagons; their mean distance after a minute",
    "Ann's car drains 40 litres while Bob's truck needs half; the ratio of costs per mile",
    "For real polynomials p of degree four with p(1)=2, its least possible value at zero",
    "Among four-digit palindromes divisible by eleven pick any; how likely it exceeds 5000",
    "Cubes of edge 1 are glued into a tower, painted green, and broken; the fraction unpainted",
    "The geometric series with ratio r below one sums to 2005, its squares to tenfold; hence r",
]


def removed(benchmark, training):
    index = BenchmarkIndex(13)
    for problem in benchmark:
        index.add(split_words(problem), NONE, benchmark="aime", problem=problem)
    judged = index.judge([(text, split_words(text)) for text in training], NONE)
    return {text: [match.problem for match in found] for text, found in judged}


def test_a_stock_ending_removes_nothing():
    """The words are thirteen, and ten problems of ten have nothing else in common."""
    benchmark = f"A rhombus has a chord with length m/n, {STOCK}."
    training = [f"{topic} is m/n, {STOCK}." for topic in TOPICS]
    copy = f"Please: {benchmark.upper()}"
    found = removed([benchmark], [*training, copy])
    assert [text for text, matches in found.items() if matches] == [copy]
    assert found[copy] == [benchmark]


def test_few_problems_with_the_same_words_are_still_removed():
    """Five with the benchmark's own: there is no telling a phrase from a copy."""
    training = [f"{topic} is m/n, {STOCK}." for topic in TOPICS[:4]]
    assert all(removed([f"A rhombus has a chord with length m/n, {STOCK}."], training).values())


def test_versions_of_a_benchmarks_problem_do_not_make_it_a_phrase():
    """However many there are: each is like the others."""
    told = "A shop sells pens at three for a coin and books at five for two coins each day but"
    versions = [
        f"Answer me this, friend number {n}. {told} {day}; how many?" for n, day in enumerate(TOPICS[0].split())
    ]
    found = removed([f"{told} Sunday. Its income on {n} days?" for n in range(2)], versions)
    assert all(len(matches) == 2 for matches in found.values())


def test_a_problem_that_is_nothing_but_a_phrase_is_found_in_any_wrapping():
    benchmark = "find all pairs of positive integers a and b such that a divides b + 1"
    assert all(removed([benchmark], [f"{topic} {benchmark} {topic[::-1]}" for topic in TOPICS]).values())


def test_what_is_shared_is_told_in_full():
    words = split_words(f"{TOPICS[1]} is m/n, {STOCK}.")
    index = BenchmarkIndex(13)
    index.add(words, NONE, benchmark="aime", problem="it")
    [(_, [match])] = index.judge([(None, ["so", *words, "end"])], NONE)
    assert (match.benchmark, match.problem, match.words) == ("aime", "it", " ".join(words))


def test_an_instruction_is_no_overlap_where_a_benchmark_is_too_small_to_tell_it():
    told = (
        "Think it through before you write. State the result alone in the last line after the word Result, please: {}"
    )
    index = BenchmarkIndex(13)
    short, long = (
        "What is 7 + 8?",
        "A farmer with nine hens buys as many again and sells four on the way home from market",
    )
    for problem in (short, long):
        index.add(split_words(told.format(problem)), NONE)
    template = Template(split_words(told.format("")), [])
    for other in (
        "What is 7 + 9?",
        "A farmer with two cows sells one",
        "How high is a tower of nine bricks each six high?",
    ):
        assert not overlaps(index, split_words(told.format(other)), template), other
    for same in (short, f"Here it is. {long}."):
        assert overlaps(index, split_words(told.format(same)), template), same
