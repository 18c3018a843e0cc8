"""Registration against MLflow's registry in a real database, and loading what was registered."""

from pathlib import Path

import pytest
import torch

from fipo.config import Architecture, Model, load_config
from fipo.errors import DataError, ModelNotFound, RegistryError
from fipo.models import load_model, load_tokenizer, save_model
from fipo.release.chat import Chat, locate
from fipo.release.registry import champion, find, patiently, register, rollback
from fipo.storage import download_directory, open_store, upload_directory
from fipo_kfp.components.door import _fetched
from tests.present import present

SETTINGS = Model(
    architecture=Architecture(
        vocabulary=tuple("0123+="), hidden_size=16, intermediate_size=16, layers=1, attention_heads=2,
        key_value_heads=1, max_position_embeddings=32,
    )
)  # fmt: skip


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory):
    return f"sqlite:///{tmp_path_factory.mktemp('registry')}/mlflow.db"


@pytest.fixture
def publish(tmp_path):
    """Upload a small model of this seed."""

    def upload(seed: int) -> dict[str, str]:
        folder = tmp_path / str(seed)
        save_model(load_model(SETTINGS, seed=seed), load_tokenizer(SETTINGS), folder)
        store = open_store((tmp_path / "objects").as_uri())
        manifest = upload_directory(store, folder, f"models/{seed}")
        return {"model_uri": f"{store.uri}/models/{seed}", "sha256": manifest.sha256}

    return upload


def add(tracking_uri, name, model, *, promote=False, score=0.5, settings=""):
    return register(
        tracking_uri, name=name, **model, run_id="", provenance={"data_sha256": "d" * 64, "run": "demo"},
        metrics={"eval/sums/avg_at_k": score}, promote=promote, settings=settings,
    )  # fmt: skip


def test_the_same_contents_are_the_same_version(tracking_uri, publish):
    model = publish(0)
    first = add(tracking_uri, "same", model, score=0.5)
    again = add(tracking_uri, "same", model, score=0.25)
    other = add(tracking_uri, "same", publish(1))
    assert (first.version, again.version, other.version) == ("1", "1", "2")
    assert again.metrics == {"eval/sums/avg_at_k": 0.25}
    assert again.provenance == {"data_sha256": "d" * 64, "run": "demo"}
    assert (first.uri, first.sha256) == (model["model_uri"], model["sha256"])


def test_a_name_alone_means_the_champion_and_not_what_came_later(tracking_uri, publish):
    add(tracking_uri, "alone", publish(0))
    assert find(tracking_uri, "alone").version == "1", "a candidate, while there is no champion"
    add(tracking_uri, "alone", publish(1), promote=True)
    add(tracking_uri, "alone", publish(2))
    assert find(tracking_uri, "alone").version == "2"
    assert find(tracking_uri, "alone@candidate").version == "3"


def test_champion_and_rollback(tracking_uri, publish):
    assert champion(tracking_uri, "race") is None
    one, two, three = publish(0), publish(1), publish(2)
    assert add(tracking_uri, "race", one, promote=True).aliases == ("candidate", "champion")
    add(tracking_uri, "race", two, score=0.4)
    assert present(champion(tracking_uri, "race")).version == "1"
    add(tracking_uri, "race", three, promote=True, score=0.9)
    assert present(champion(tracking_uri, "race")).metrics == {"eval/sums/avg_at_k": 0.9}
    assert rollback(tracking_uri, "race").version == "1"
    assert present(champion(tracking_uri, "race")).aliases == ("champion",)
    with pytest.raises(RegistryError, match="version 1, had no predecessor"):
        rollback(tracking_uri, "race")
    assert rollback(tracking_uri, "race", "2").aliases == ("champion",)
    assert rollback(tracking_uri, "race").version == "1"
    with pytest.raises(RegistryError, match="promote version 7 of race"):
        rollback(tracking_uri, "race", "7")


def test_it_loads_with_transformers_and_with_mlflow(tracking_uri, publish, tmp_path):
    import mlflow
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = publish(3)
    add(tracking_uri, "loads", model, promote=True)
    folder = tmp_path / "downloaded"
    download_directory(open_store(model["model_uri"]), "", folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer("1 + 2 =", return_tensors="pt")
    plain = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True)
    expected = plain.generate(**prompt, max_new_tokens=5, do_sample=False)[0]  # type: ignore[misc]
    mlflow.set_tracking_uri(tracking_uri)
    pipeline = mlflow.transformers.load_model("models:/loads@champion")
    (answer,) = pipeline("1 + 2 =", max_new_tokens=5, do_sample=False, return_tensors=True)
    assert answer["generated_token_ids"] == expected.tolist()
    assert torch.equal(pipeline.model.lm_head.weight, plain.lm_head.weight)


def test_it_answers_a_prompt_as_it_was_trained(tracking_uri, publish, tmp_path, capsys):
    model = publish(4)
    assert add(tracking_uri, "chat", model, promote=True, settings="").aliases == ("candidate", "champion")
    recipe = load_config("demo", ["data.prompt_template='1 + {prompt} ='", "rollout.max_response_tokens=6"])
    add(tracking_uri, "chat", model, settings=recipe.to_yaml())
    found = locate("chat", tracking_uri=tracking_uri, directory=tmp_path)
    answer = Chat(found.folder, temperature=0.0).answer("2")
    tokenizer, plain = load_tokenizer(Model(name_or_path=str(found.folder))), load_model(SETTINGS, seed=4)
    prompt = tokenizer("1 + 2 =", return_tensors="pt")
    expected = plain.generate(**prompt, max_new_tokens=6, do_sample=False)[0, 4:]  # type: ignore[operator]
    assert answer == tokenizer.decode(expected, skip_special_tokens=True) != ""
    assert capsys.readouterr().out.split() == answer.split()
    assert locate(str(found.folder), tracking_uri="", directory=tmp_path).folder == found.folder
    with pytest.raises(DataError, match=r"no tokens for 'what\?'; it knows only \+ 0 1 2 3"):
        Chat(found.folder).answer("what?")


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("a@b@c", "expected name, name@alias or name/version of a registered model"),
        ("nowhere", "'nowhere': not registered at .*, which has .*same"),
        ("nowhere/2", "'nowhere': not registered"),
        ("same/9", "version 9 of same"),
        ("same@best", "no alias best; its aliases: candidate"),
    ],
)
def test_models_that_are_not_there_are_named(tracking_uri, publish, reference, words):
    add(tracking_uri, "same", publish(0))
    with pytest.raises(ModelNotFound, match=words) as told:
        find(tracking_uri, reference)
    assert told.value.exit_code == 2


def test_a_model_that_is_not_there_is_not_rolled_back(tracking_uri):
    with pytest.raises(ModelNotFound, match="'nowhere': not registered"):
        rollback(tracking_uri, "nowhere")


def test_another_model_at_the_uri_is_refused(tracking_uri, publish):
    model = publish(0)
    with pytest.raises(RegistryError, match="expected the model 000"):
        add(tracking_uri, "refused", {**model, "sha256": "0" * 64})


def test_the_model_card_tells_where_the_model_comes_from(tracking_uri, publish):
    model = publish(0)
    add(tracking_uri, "card", model, score=0.123456)
    card = open_store(model["model_uri"]).get("README.md").decode()
    assert "| `eval/sums/avg_at_k` | 0.1235 |" in card
    assert f"| data sha256 | `{'d' * 64}` |" in card
    assert Path(model["model_uri"]).name == "0" and model["sha256"] in card


def test_configure_waits_for_mlflow(tracking_uri, publish, tmp_path, mlflow_restarts):
    patiently(add, tracking_uri, "waited-for", publish(0), promote=True)
    mlflow_restarts.clear()
    config = load_config("demo", [f"run.directory={tmp_path}", f"tracking.uri={tracking_uri}"])
    model, *_ = _fetched(config, "waited-for@champion")
    assert str(tmp_path) in model and {"search_registered_models", "get_model_version"} <= mlflow_restarts
