"""The packages as Kubernetes resources, for clusters that keep their pipelines so."""

import jsonschema
import pytest
import yaml
from kfp import compiler
from kfp.compiler.compiler_utils import KubernetesManifestOptions

from fipo_kfp.pipelines.package import PIPELINES


@pytest.fixture(params=PIPELINES)
def resources(request, tmp_path):
    pipeline = PIPELINES[request.param]
    options = KubernetesManifestOptions(
        pipeline_name=pipeline.name,
        pipeline_version_name=f"{pipeline.name}-0-1-0",
        namespace="fipo",
        include_pipeline_manifest=True,
    )
    path = tmp_path / "resources.yaml"
    compiler.Compiler().compile(
        pipeline, str(path), kubernetes_manifest_format=True, kubernetes_manifest_options=options
    )
    return list(yaml.safe_load_all(path.read_text()))


def test_they_obey_kubeflows_schemas(resources, check):
    assert [item["kind"] for item in resources] == ["Pipeline", "PipelineVersion"]
    for item in resources:
        check(item)
    (_, version) = resources
    version["spec"]["pipelineId"] = "x"
    with pytest.raises(jsonschema.ValidationError, match="pipelineId"):
        check(version)
