from kfp import dsl

from components.gate.component import gate


def test_decides(measured, artifact):
    decision = gate.python_func(**measured, results=artifact("results", dsl.Dataset))
    assert decision == "promote", "there is no champion to beat and no minimum"
    assert measured["metrics"].metadata["gate/passed"] == 1
