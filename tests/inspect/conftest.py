"""Records as training writes them, and a real server on them."""

import threading
import urllib.error
import urllib.request
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import uvicorn

from fipo.batch import FinishReason, Outcome, Prompt, Rollout, RolloutGroup, Score, TokenTrace
from fipo.config import Architecture, Model
from fipo.inspect.server import listen
from fipo.models import load_tokenizer
from fipo.rollout.record import record_key, record_table, store_record
from fipo.rollout.texts import TokenTexts
from fipo.storage import open_store

HOSTILE = [
    "</script><script>document.title='taken'</script>",
    "<img src=x onerror=document.title='taken'>",
    "{{7*7}}{%raw%}",
    "\u202egnorts\u202c",
    "\x1b[2J\x00\x07",
    "';--&lt;\"",
]
"""Words of the vocabulary, and so of responses: what a page must not do, show or execute."""
WORDS = ("one", "two", "three", *HOSTILE)
LINEAGE = "0123456789ab"


class Records:
    """A run's records under a folder."""

    def __init__(self, folder):
        self.folder, self.store = folder, open_store(folder.as_uri())
        self.tokenizer = load_tokenizer(Model(architecture=Architecture(vocabulary=WORDS)))
        self.texts = TokenTexts(self.tokenizer)
        self.prefix = f"mine/train/rollouts/{LINEAGE}"

    def ids(self, *words):
        return np.array([self.tokenizer.get_vocab()[word] for word in (*words, self.tokenizer.eos_token)], np.int32)

    def response(self, *words, outcome=Outcome.CORRECT, finish=FinishReason.STOP):
        ids = self.ids(*words)
        log_probs = -np.arange(len(ids), dtype=np.float32)
        right = float(outcome is Outcome.CORRECT)
        return Rollout(ids, log_probs, finish, 7), Score(outcome, right, right, explanation=HOSTILE[0])

    def group(self, name, *responses, learned=True, text=""):
        prompt = Prompt(name, text or f"problem {name}", tuple(self.ids("one").tolist()), HOSTILE[1], HOSTILE[5])
        rollouts, scores = [one for one, _ in responses], [score for _, score in responses]
        advantages = tuple(1.0 if score.accuracy else -1.0 for score in scores) if learned else ()
        return RolloutGroup(prompt, tuple(rollouts), tuple(scores), advantages)

    def traces(self, groups):
        found = {}
        for sample in (sample for group in groups for sample in group.samples if sample.advantage is not None):
            count = len(sample.rollout.token_ids)
            weights = np.linspace(0.9, 1.2, count)
            fields = weights, np.log(weights), np.full(count, 0.25), np.arange(count) / 2, np.full(count, 1e-3)
            found[sample.key] = TokenTrace(2, *[each.astype(np.float16) for each in fields])
        return found

    def write(self, step, *groups, prefix=None):
        table = record_table(step, groups, self.traces(groups), self.texts)
        prefix = self.prefix if prefix is None else prefix
        store_record(table, self.store, prefix, step)
        return self.folder / record_key(prefix, step)


class Site:
    """A server that answers."""

    def __init__(self, port):
        self.port, self.url = port, f"http://127.0.0.1:{port}"

    def get(self, path, method="GET", **headers):
        """Status, headers, page."""
        request = urllib.request.Request(self.url + path, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return answer.status, answer.headers, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.headers, error.read().decode()

    def __call__(self, path):
        status, _, page = self.get(path)
        assert status == 200, page
        return page


@contextmanager
def serving(pages):
    listening = listen(0)
    server = uvicorn.Server(uvicorn.Config(pages.app(), log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield Site(listening.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(30)
        listening.close()


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Step 3 has a group with hostile text and one that nothing was learned from; step 4 a long response."""
    made = Records(tmp_path_factory.mktemp("store"))
    right = made.response("one", "two", "two", *HOSTILE)
    wrong = made.response("one", "two", "three", outcome=Outcome.WRONG)
    cut = made.response("one", "two", outcome=Outcome.UNPARSED, finish=FinishReason.LENGTH)
    hostile = made.group("aaaaaaaaaaaa1111", right, wrong, cut, text="\n".join(HOSTILE))
    idle = made.group("bbbbbbbbbbbb2222", *[made.response("one")] * 2, learned=False)
    again = replace(idle, prompt=replace(idle.prompt, draw=1))
    made.write(3, hostile, idle, again)
    made.write(4, made.group("cccccccccccc3333", made.response(*["one"] * 40), wrong))
    return made
