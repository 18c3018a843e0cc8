"""MLflow's model registry: versions by content, with provenance; `candidate` is the newest, `champion` the best.

`served` is the one that the cluster serves.

A version points at the weights where they are in the object store; nothing is copied. What MLflow needs to load them
(`MLmodel`, the tokenizer under `components/`) and the model card are written beside them, outside the manifest. Only a
tracking server over a local folder gets a copy: servers refuse to point at folders, which may be another machine's.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar
from urllib.parse import unquote, urlsplit

import yaml

from fipo.errors import ModelNotFound, ObjectNotFound, RegistryError, StorageError
from fipo.storage import DirectoryManifest, ObjectStore, download_directory, open_store, read_manifest
from fipo.tracking.client import connect
from fipo.waits import Wait

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CANDIDATE, CHAMPION, SERVED = "candidate", "champion", "served"
SETTINGS = "fipo.yaml"
"""File beside a registered model's weights: the settings of its run."""
POLL_SECONDS = 3.0
PATIENCE_SECONDS = 600.0
"""How long MLflow may be away before a step gives up."""
_SHA256, _URI, _PREVIOUS, _METRIC = "sha256", "uri", "previous_champion", "metric."
_SERVED_AT, _SERVED_AS = "served_at", "served_as"
_TOKENIZER_FILES = (
    "tokenizer",
    "special_tokens_map",
    "added_tokens",
    "vocab",
    "merges",
    "chat_template",
    "config.json",
)


P = ParamSpec("P")
T = TypeVar("T")


class Unavailable(RegistryError):
    """MLflow could not be reached, or could not answer."""


@dataclass(frozen=True)
class RegisteredModel:
    """One version of a registered model."""

    name: str
    version: str
    uri: str
    """Object-store URI of the folder with its weights."""
    sha256: str
    """Digest of that folder's manifest."""
    aliases: tuple[str, ...]
    metrics: Mapping[str, float]
    """As given at registration, by their names in `fipo.tracking.metric_names`."""
    provenance: Mapping[str, str]
    """Which data, configuration, code and runs it comes from."""
    served_as: str = ""
    """Namespace and name of the cluster's object that serves it, or did; empty if none ever has."""


def patiently(ask: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a function of this module returns, called again while MLflow is away; what it has made it finds again.

    Raises:
        Unavailable: MLflow stayed away for `PATIENCE_SECONDS`.
    """
    wait = Wait("MLflow", PATIENCE_SECONDS)
    while True:
        try:
            return ask(*args, **kwargs)
        except Unavailable as problem:
            if wait.over:
                raise
            print(f"[registry] {problem}; trying again: {wait}", flush=True)
        time.sleep(POLL_SECONDS)


def register(
    tracking_uri: str,
    *,
    name: str,
    model_uri: str,
    sha256: str,
    run_id: str,
    provenance: Mapping[str, str],
    metrics: Mapping[str, float],
    promote: bool,
    settings: str = "",
) -> RegisteredModel:
    """Make the folder at `model_uri` a version of the model `name`; the same contents are the same version.

    The version gets the alias `candidate` and, with `promote`, `champion`. `settings`, the YAML of the run, is kept
    beside the weights for those who want to ask the model as it was trained (`fipo chat`).

    Raises:
        RegistryError: the folder is not the one meant, is no model, or MLflow refuses it.
    """
    store = open_store(model_uri)
    manifest = read_manifest(store, "")
    if manifest.sha256 != sha256:
        raise RegistryError(
            f"register {model_uri}: expected the model {sha256}, found {manifest.sha256}; upload it again"
        )
    provenance = {key: value for key, value in provenance.items() if value}
    tags = {
        **provenance,
        _SHA256: sha256,
        _URI: model_uri,
        **{_METRIC + key: repr(value) for key, value in metrics.items()},
    }
    client = connect(tracking_uri)
    with _errors(f"register {name} from {model_uri}"):
        _add_flavour(store, manifest, run_id)
        store.put("README.md", model_card(name, model_uri, sha256, provenance, metrics).encode())
        if settings:
            store.put(SETTINGS, settings.encode())
        if not client.search_registered_models(f"name = '{name}'"):
            _create_name(client, name)
        known = client.search_model_versions(f"name = '{name}' and tags.{_SHA256} = '{sha256}'")
        version = known[0] if known else _create(client, tracking_uri, name, model_uri, run_id, tags)
        for key, value in tags.items() if known else ():
            client.set_model_version_tag(name, version.version, key, value)
        client.set_registered_model_alias(name, CANDIDATE, version.version)
    if promote:
        return set_champion(tracking_uri, name, str(version.version))
    return _get(tracking_uri, name, str(version.version))


def champion(tracking_uri: str, name: str) -> RegisteredModel | None:
    """The version with the alias `champion`, or None while there is none."""
    return _with_alias(tracking_uri, name, CHAMPION)


def served(tracking_uri: str, name: str) -> RegisteredModel | None:
    """The version that the cluster serves, as `set_served` recorded; None where none has been deployed."""
    return _with_alias(tracking_uri, name, SERVED)


def find(tracking_uri: str, reference: str) -> RegisteredModel:
    """The version that `name@alias` or `name/version` means, and `name` alone its champion, or else its candidate.

    MLflow's own `models:/` before it may stand or not.

    Raises:
        ModelNotFound: the reference has another form, or there is no such model, alias or version.
    """
    match = re.fullmatch(r"(?:models:/)?(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))?", reference)
    if not match:
        raise ModelNotFound(
            f"model {reference!r}: expected name, name@alias or name/version of a registered model, such as "
            "fipo@champion; and there is no such folder here"
        )
    name, aliases = match["name"], _registered(tracking_uri, match["name"])
    wanted = [match["alias"]] if match["alias"] else [CHAMPION, CANDIDATE]
    version = match["version"] or next((aliases[alias] for alias in wanted if alias in aliases), None)
    if version is None:
        known = ", ".join(sorted(aliases)) or "none"
        raise ModelNotFound(f"model {reference!r}: {name} has no alias {' or '.join(wanted)}; its aliases: {known}")
    return _get(tracking_uri, name, version)


def fetch(model: RegisteredModel, directory: Path) -> Path:
    """A verified local copy below `directory`, with the settings of its run where the version has them.

    Raises:
        StorageError: the weights are gone or damaged.
    """
    return download(model.uri, model.sha256, directory)


def download(uri: str, sha256: str, directory: Path) -> Path:
    """The same for the folder at `uri` in the object store, which must have the digest `sha256`.

    Raises:
        StorageError: the weights are gone, damaged or others.
    """
    folder, store = directory / "models" / sha256[:12], open_store(uri)
    if (found := read_manifest(store, "").sha256) != sha256:
        raise StorageError(f"{uri}: expected the model of SHA-256 {sha256}; found {found}")
    download_directory(store, "", folder)
    (folder / SETTINGS).unlink(missing_ok=True)
    with suppress(ObjectNotFound):
        (folder / SETTINGS).write_bytes(store.get(SETTINGS))
    return folder


def fetch_answers(model: RegisteredModel, directory: Path) -> Path:
    """Its answers to the benchmarks, brought below `directory`; an empty folder where its version names no evaluation.

    Raises:
        StorageError: the evaluation is gone, or is not the one that the version was registered with.
    """
    uri, sha256 = model.provenance.get("evaluation_uri"), model.provenance.get("evaluation_sha256", "")
    folder = directory / "inputs" / f"champion-{sha256[:12]}"
    if uri and download_directory(open_store(uri), "", folder).sha256 != sha256:
        raise StorageError(f"{uri}: not the evaluation of {model.name} version {model.version} any more")
    return folder / "trained"


def set_served(tracking_uri: str, name: str, version: str, served_as: str) -> None:
    """Record that the cluster's object `served_as` (`namespace/name`) serves this version, from now on."""
    client = connect(tracking_uri)
    with _errors(f"record that version {version} of {name} is served"):
        client.set_model_version_tag(name, version, _SERVED_AS, served_as)
        client.set_model_version_tag(name, version, _SERVED_AT, datetime.now(UTC).isoformat(timespec="seconds"))
        client.set_registered_model_alias(name, SERVED, version)


def set_champion(tracking_uri: str, name: str, version: str) -> RegisteredModel:
    """Give a version the alias `champion`; the version remembers whose place it takes.

    Raises:
        RegistryError: there is no such version.
    """
    client, present = connect(tracking_uri), _aliases(tracking_uri, name).get(CHAMPION)
    with _errors(f"promote version {version} of {name}", absent=ModelNotFound):
        if present != version:
            client.set_model_version_tag(name, version, _PREVIOUS, present or "")
        client.set_registered_model_alias(name, CHAMPION, version)
    return _get(tracking_uri, name, version)


def rollback(tracking_uri: str, name: str, version: str = "") -> RegisteredModel:
    """Make the champion's predecessor champion again, or any `version`.

    Raises:
        ModelNotFound: there is no such model.
        RegistryError: there is no such version, no champion, or it had no predecessor.
    """
    client, present = connect(tracking_uri), _registered(tracking_uri, name).get(CHAMPION)
    if version:
        return set_champion(tracking_uri, name, version)
    if present is None:
        raise RegistryError(f"rollback {name}: it has no champion")
    with _errors(f"rollback {name}"):
        previous = client.get_model_version(name, present).tags.get(_PREVIOUS)
        if not previous:
            raise RegistryError(
                f"rollback {name}: its champion, version {present}, had no predecessor; name a version to make champion"
            )
        client.set_registered_model_alias(name, CHAMPION, previous)
    return _get(tracking_uri, name, previous)


def model_card(
    name: str, model_uri: str, sha256: str, provenance: Mapping[str, str], metrics: Mapping[str, float]
) -> str:
    """README.md of the model: what it scores, where it comes from, how to load it."""
    header = yaml.safe_dump({"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["fipo"]})
    return "\n".join(
        [
            f"---\n{header}---",
            f"# {name}",
            "",
            "A reasoning model trained with FIPO (Future-KL Influenced Policy Optimization, arXiv 2603.19835).",
            *("", "## Results", "", "| Metric | Value |", "|---|---|"),
            *(f"| `{key}` | {value:.4g} |" for key, value in sorted(metrics.items())),
            *("", "## Provenance", "", "| | |", "|---|---|"),
            *(f"| {key.replace('_', ' ')} | {_linked(value)} |" for key, value in sorted(provenance.items())),
            f"| weights | `{model_uri}` |",
            f"| SHA-256 of the folder's listing | `{sha256}` |",
            *("", "## Use", "", "```python"),
            f'pipeline = mlflow.transformers.load_model("models:/{name}@champion")',
            "```",
            "",
        ]
    )


def _linked(value: str) -> str:
    """A page becomes a link, all else is verbatim."""
    return f"[{value}]({value})" if value.startswith(("http://", "https://")) else f"`{value}`"


def _create_name(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another run was faster
            raise


def _create(
    client: MlflowClient, tracking_uri: str, name: str, model_uri: str, run_id: str, tags: Mapping[str, str]
) -> ModelVersion:
    """A new version, of the weights in place or, where the server would refuse that, of a copy among its artifacts."""
    if not (tracking_uri.startswith("http") and model_uri.startswith("file:")):
        return client.create_model_version(name, model_uri, run_id or None, dict(tags))
    experiment_id = client.get_run(run_id).info.experiment_id if run_id else "0"
    model = client.create_logged_model(experiment_id, name, run_id or None)
    client.log_model_artifacts(model.model_id, unquote(urlsplit(model_uri).path))
    client.finalize_logged_model(model.model_id, "READY")
    source = f"models:/{model.model_id}"
    return client.create_model_version(name, source, run_id or None, dict(tags), model_id=model.model_id)


def _add_flavour(store: ObjectStore, manifest: DirectoryManifest, run_id: str) -> None:
    """Write what `mlflow.transformers.load_model` reads."""
    try:
        config = json.loads(store.get("config.json"))
        architecture = config["architectures"][0]
    except (ValueError, KeyError, IndexError) as error:
        raise RegistryError(
            f"{store.uri}/config.json: not the configuration of a transformers model: {error!r}"
        ) from None
    # MLflow loads each component from a folder of its own.
    for file in manifest.files:
        if file.startswith(_TOKENIZER_FILES):
            store.put(f"components/tokenizer/{file}", store.get(file))
    flavour = {
        "task": "text-generation",
        "instance_type": "TextGenerationPipeline",
        "pipeline_model_type": architecture,
        "source_model_name": "",
        "model_binary": ".",
        "components": ["tokenizer"],
        "tokenizer_type": json.loads(store.get("tokenizer_config.json")).get("tokenizer_class", "AutoTokenizer"),
        "torch_dtype": f"torch.{config.get('dtype', 'float32')}",
    }
    model = {
        "flavors": {"transformers": flavour},
        "run_id": run_id,
        "utc_time_created": time.strftime("%Y-%m-%d %H:%M:%S.000000", time.gmtime()),
    }
    store.put("MLmodel", yaml.safe_dump(model).encode())


def _get(tracking_uri: str, name: str, version: str) -> RegisteredModel:
    with _errors(f"read version {version} of {name}", absent=ModelNotFound):
        found: ModelVersion = connect(tracking_uri).get_model_version(name, version)
    tags = found.tags
    metrics = {key.removeprefix(_METRIC): float(value) for key, value in tags.items() if key.startswith(_METRIC)}
    own = {_SHA256, _URI, _PREVIOUS, _SERVED_AT, _SERVED_AS}
    return RegisteredModel(
        name=name,
        version=str(found.version),
        uri=tags.get(_URI, str(found.source)),
        sha256=tags.get(_SHA256, ""),
        aliases=tuple(found.aliases),
        metrics=metrics,
        provenance={key: value for key, value in tags.items() if not (key in own or key.startswith(_METRIC))},
        served_as=tags.get(_SERVED_AS, ""),
    )


def _with_alias(tracking_uri: str, name: str, alias: str) -> RegisteredModel | None:
    version = _aliases(tracking_uri, name).get(alias)
    return _get(tracking_uri, name, version) if version else None


def _registered(tracking_uri: str, name: str) -> dict[str, str]:
    """Version by alias of a model that must be there."""
    with _errors(f"look up {name}"):
        client = connect(tracking_uri)
        if client.search_registered_models(f"name = '{name}'"):
            return _aliases(tracking_uri, name)
        known = ", ".join(model.name for model in client.search_registered_models(max_results=20)) or "no model"
    raise ModelNotFound(f"model {name!r}: not registered at {tracking_uri}, which has {known}")


def _aliases(tracking_uri: str, name: str) -> dict[str, str]:
    """Version by alias; empty where the model does not exist."""
    with _errors(f"look up {name}"):
        models = connect(tracking_uri).search_registered_models(f"name = '{name}'")
        return {alias: str(version) for model in models for alias, version in model.aliases.items()}


@contextmanager
def _errors(what: str, absent: type[RegistryError] = RegistryError) -> Iterator[None]:
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        kind = absent if error.error_code == "RESOURCE_DOES_NOT_EXIST" else RegistryError
        # Whoever reached no server has an internal error too; a broken connection to its database may be a bad request.
        if error.get_http_status_code() >= 500 or error.error_code in ("BAD_REQUEST", "REQUEST_LIMIT_EXCEEDED"):
            kind = Unavailable
        raise kind(f"{what}: {error.message}") from error
