from kfp import dsl

from fipo_kfp.components.register.component import register


def test_names_the_registered_version(common, artifact, tiny_pipeline):
    registered, model = artifact("registered", dsl.Model), artifact("model", dsl.Model)
    register.python_func(**common, trained_model=model, decision="promote", registered_model=registered)
    assert (registered.metadata["name"], int(registered.metadata["version"])) == ("fipo-tiny", 1)
    assert len(registered.metadata["sha256"]) == 64
    assert "fipo-tiny version 1: champion" in tiny_pipeline.output
