from fipo.data.overlap import BenchmarkIndex, Template, split_words

NONE = Template([], [])
DAPO = (
    "Solve the following math problem step by step. The last line of your response should be of the form "
    "Answer: $Answer (without quotes) where $Answer is the answer to the problem.\n\n{}\n\n"
    'Remember to put your answer on its own line after "Answer:".'
)


def test_words_are_numbers_letters_and_operators_in_lower_case():
    assert split_words(r"Let $x^2 + \frac{1}{2}=Y$.") == ["let", "x", "^", "2", "+", "frac", "1", "2", "=", "y"]
    assert split_words("3 + 4") != split_words("3 - 4")
    assert split_words("求 x 的值") == ["求", "x", "的", "值"]
    assert split_words("Ｆｕｌｌ １２") == ["full", "12"]


def test_overlap_is_n_consecutive_words():
    index = BenchmarkIndex(5)
    index.add(split_words("a b c d e f"), NONE)
    assert index.overlaps(split_words("x y b c d e f z"), NONE)
    assert not index.overlaps(split_words("a b c d x e f"), NONE)
    assert not index.overlaps(split_words("b c d e"), NONE)


def test_shorter_than_n_words_overlaps_when_equal():
    index = BenchmarkIndex(13)
    index.add(split_words("what is 3 + 4"), NONE)
    assert index.overlaps(split_words("what is 3 + 4"), NONE)
    assert not index.overlaps(split_words("what is 3 + 5"), NONE)
    assert not index.overlaps(split_words("tell me what is 3 + 4"), NONE)


def test_short_problems_are_found_in_another_wrapping():
    index = BenchmarkIndex(13)
    index.add(["solve", "3", "+", "4", "please"], Template(["solve"], ["please"]))
    assert index.overlaps(["3", "+", "4"], NONE)
    assert index.overlaps(["compute", "3", "+", "4"], Template(["compute"], []))
    assert not index.overlaps(["compute", "3", "+", "5"], Template(["compute"], []))


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
    assert [index.overlaps(words, template) for words in in_train] == [False] * 30 + [True]
    assert index.overlaps(split_words(f"Tell me this. {benchmark[7]}, and why?"), NONE)


def test_benchmark_problems_that_differ_in_a_number_only():
    benchmark = [split_words(f"If one adds {n} to the number of legs of a cat, what is the sum") for n in range(20)]
    template, index = Template.common(benchmark), BenchmarkIndex(13)
    for words in benchmark:
        index.add(words, template)
    assert [template.strip(words) for words in benchmark[:2]] == [["0"], ["1"]]
    assert index.overlaps(["again", *benchmark[3], "really"], NONE)
    assert not index.overlaps(split_words("If one adds 20 to the number of legs of a cat, what is the sum"), NONE)
