import pytest

from fipo.errors import ConfigError
from fipo_kfp.pipelines.cron import check_cron


@pytest.mark.parametrize(
    "expression",
    ["0 0 3 * * *", "*/30 * * ? * MON-FRI", "0 5,35 0-23/2 1 JAN,jul *", "59 59 23 31 12 6", "0 0 9 ? * 2-6"],
)
def test_what_kubeflow_understands(expression):
    assert check_cron(expression) == expression


def test_blanks_do_not_matter():
    assert check_cron("  0 0  3 * * * ") == "0 0 3 * * *"


@pytest.mark.parametrize(
    ("expression", "field"),
    [
        ("0 3 * * *", "found 5"),
        ("@daily", "found 1"),
        ("60 0 0 * * *", "second"),
        ("0 60 0 * * *", "minute"),
        ("0 0 24 * * *", "hour"),
        ("0 0 0 0 * *", "day of month"),
        ("0 0 0 * 13 *", "month"),
        ("0 0 0 * * 7", "day of week"),
        ("0 0 0 * * FUN", "day of week"),
        ("0 30-10 0 * * *", "minute"),
        ("0 */0 0 * * *", "minute"),
        ("0 1- 0 * * *", "minute"),
        ("0 *5 0 * * *", "minute"),
        ("0 , 0 * * *", "minute"),
        ("0 \N{SUPERSCRIPT TWO} 3 * * *", "minute"),
        ("0 0 \N{ARABIC-INDIC DIGIT THREE} * * *", "hour"),
    ],
)
def test_what_it_does_not(expression, field):
    with pytest.raises(ConfigError, match=field):
        check_cron(expression)
