from pathlib import Path

from kfp import dsl

from fipo_kfp.components.gate.component import gate


def test_decides_and_says_why(common, artifact, page):
    decision = gate.python_func(**common, results=artifact("results", dsl.Dataset), decision=page)
    assert decision == "promote", "there is no champion to beat and no minimum"
    assert "**Promoted: avg_at_k on sums is " in Path(page.path).read_text()
