"""The pages and their addresses: `/{lineage}/{step}` lists groups, `/{lineage}/{step}/{group}/{response}` shows one.

What a model wrote is hostile: the templates escape all of it, the browser runs no script and loads no style but the
two files here, and answers only pages of this address (another site's name that leads here gets none).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse
from starlette.responses import Response as Answer
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fipo.errors import FipoError
from fipo.inspect.colours import QUANTITIES, Scale, scale_of
from fipo.inspect.records import Group, Response, Search, groups_of, parting, responses_of, search
from fipo.inspect.text import line, visible
from fipo.outcome import Outcome
from fipo.run.rollouts import Rollouts

SHOWN_GROUPS = 100
"""On one page."""
HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
FILES = {"style.css": "text/css", "script.js": "text/javascript"}
NAMELESS = "records"
"""In addresses: the lineage of records that were copied out of a store."""
MARKS = {"correct": "✓", "wrong": "✗", "unparsed": "?", "timeout": "◷"}

_templates = Environment(
    loader=PackageLoader("fipo", "inspect/templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_templates.filters.update(visible=visible, line=line)
_templates.globals.update(group_address=lambda lineage, group: f"{lineage}/{group.step}/{group.key}")


@dataclass(frozen=True, slots=True)
class Shown:
    """One response as its page shows it."""

    side: str
    """`a` or `b`: begins the ids of its tokens."""
    response: Response
    tokens: Sequence[tuple[str, str, bool]]
    """Text, CSS class of its colour, and whether an environment wrote it."""
    data: dict[str, Any]
    """For the script: of each quantity the values as text and the CSS classes."""
    mark: str


class Pages:
    """Answers requests for one run."""

    def __init__(self, rollouts: Rollouts, title: str, newest: str) -> None:
        """`newest` is the lineage to begin with."""
        self._rollouts, self._title, self._newest = rollouts, title, newest

    def app(self) -> Starlette:
        """What a server serves."""
        routes = [
            Route("/", self._first),
            Route("/static/{name}", _static),
            Route("/{lineage}", self._first),
            Route("/{lineage}/all", self._groups),
            Route("/{lineage}/{step:int}", self._groups),
            Route("/{lineage}/{step:int}/{group}", self._group),
            Route("/{lineage}/{step:int}/{group}/{index:int}", self._response),
        ]
        hosts = Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"], www_redirect=False)
        handlers: dict[Any, Any] = {HTTPException: self._missing, FipoError: self._failed}
        return Starlette(routes=routes, middleware=[Middleware(_Headers), hosts], exception_handlers=handlers)

    def _first(self, request: Request) -> Answer:
        lineages = self._lineages()
        name = request.path_params.get("lineage") or self._newest
        if name not in lineages:
            name = next(reversed(lineages))
        return RedirectResponse(f"/{name}/{lineages[name][-1]}")

    def _groups(self, request: Request) -> Answer:
        lineage, step, steps = self._place(request)
        wanted, start = _search(request), _number(request, "start") or 0
        found = search(self._rollouts, _key(lineage), steps if step is None else [step], wanted)
        groups = list(islice(found, start, start + SHOWN_GROUPS + 1))
        more = str(request.url.include_query_params(start=start + SHOWN_GROUPS).query)
        return self._page(
            "groups.html",
            lineage=lineage,
            step=step,
            steps=steps,
            wanted=wanted,
            groups=groups[:SHOWN_GROUPS],
            more=f"?{more}" if len(groups) > SHOWN_GROUPS else "",
            outcomes=[*map(str, Outcome), "truncated"],
        )

    def _group(self, request: Request) -> Answer:
        lineage, step, _ = self._place(request)
        group = _find(self._groups_of(lineage, step), request.path_params["group"])
        return RedirectResponse(f"/{lineage}/{step}/{group.key}/{group.responses[0].index}")

    def _response(self, request: Request) -> Answer:
        lineage, step, steps = self._place(request)
        groups = self._groups_of(lineage, step)
        group = _find(groups, request.path_params["group"])
        place = groups.index(group)
        there = [one.index for one in group.responses]
        index, beside = request.path_params["index"], _number(request, "beside")
        if index not in there or (beside is not None and beside not in there):
            raise HTTPException(404, f"group {group.key} has responses {there[0]} to {there[-1]}")
        chosen = [index] if beside is None else [index, beside]
        responses = responses_of(self._rollouts, _key(lineage), group, chosen)
        known = [key for key in QUANTITIES if any(key in one.known for one in responses)] or ["f"]
        colour = request.query_params.get("colour", known[0])
        if colour not in QUANTITIES:
            raise HTTPException(404, f"colour: must be one of {', '.join(QUANTITIES)}")
        scales = {key: scale_of(QUANTITIES[key], [one.values(key) for one in responses]) for key in known}
        return self._page(
            "response.html",
            lineage=lineage,
            step=step,
            steps=steps,
            group=group,
            before=groups[place - 1] if place else None,
            after=groups[place + 1] if place + 1 < len(groups) else None,
            index=index,
            beside=beside,
            contrast=_contrast(group, index),
            colour=colour,
            missing=_missing_since(responses[0]),
            scales=scales,
            legends={key: _legend(scale) for key, scale in scales.items()},
            shown=[_shown(side, one, scales, colour) for side, one in zip("ab", responses)],
            parting=parting(*responses) if len(responses) == 2 else None,
        )

    def _groups_of(self, lineage: str, step: int | None) -> list[Group]:
        assert step is not None
        return groups_of(self._rollouts, _key(lineage), step)

    def _place(self, request: Request) -> tuple[str, int | None, list[int]]:
        """Lineage, step (None: all) and the steps that there are; only what the store lists is ever asked for."""
        lineages, name, step = self._lineages(), request.path_params["lineage"], request.path_params.get("step")
        if name not in lineages:
            raise HTTPException(404, f"no records {name!r} here; there are {', '.join(lineages)}")
        steps = lineages[name]
        if step is not None and step not in steps:
            raise HTTPException(404, f"no step {step} here; there are {steps[0]} to {steps[-1]}")
        return name, step, steps

    def _lineages(self) -> dict[str, list[int]]:
        found = {lineage or NAMELESS: steps for lineage, steps in self._rollouts.lineages().items()}
        if not found:
            raise HTTPException(404, f"no step has been recorded in {self._rollouts.uri} yet: look again after step 1")
        return found

    def _missing(self, request: Request, error: HTTPException) -> Answer:
        return self._page("message.html", error.status_code, message=error.detail)

    def _failed(self, request: Request, error: FipoError) -> Answer:
        return self._page("message.html", 500, message=str(error))

    def _page(self, template: str, status: int = 200, **shown: Any) -> Answer:
        page = _templates.get_template(template).render(title=self._title, marks=MARKS, quantities=QUANTITIES, **shown)
        return HTMLResponse(page, status)


class _Headers:
    """Adds `HEADERS` to every answer, errors too."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", []),
                    *((name.encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        await self._app(scope, receive, with_headers)


def _static(request: Request) -> Answer:
    name = request.path_params["name"]
    if name not in FILES:
        raise HTTPException(404, f"no file {name!r}")
    return FileResponse(Path(__file__).parent / name, media_type=FILES[name])


def _key(lineage: str) -> str:
    return "" if lineage == NAMELESS else lineage


def _find(groups: Sequence[Group], key: str) -> Group:
    for group in groups:
        if group.key == key:
            return group
    raise HTTPException(404, f"no group {key!r} in this step")


def _contrast(group: Group, index: int) -> int | None:
    """The sibling that tells most beside a response: one of another outcome, else the next; None: it has none."""
    others = [one for one in group.responses if one.index != index]
    outcome = next(one.outcome for one in group.responses if one.index == index)
    return next((one.index for one in others if one.outcome != outcome), others[0].index if others else None)


def _missing_since(response: Response) -> str:
    """Why a record has not all quantities."""
    if response.row["advantage"] is None:
        return "nothing was learned from it."
    return "it was written by an older version."


def _search(request: Request) -> Search:
    outcome = request.query_params.get("outcome", "")
    if outcome not in ("", "truncated", *Outcome):
        raise HTTPException(404, f"outcome: must be one of {', '.join(Outcome)}, truncated")
    return Search(outcome, _number(request, "at_least"), _number(request, "at_most"))


def _number(request: Request, name: str) -> int | None:
    text = request.query_params.get(name, "")
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise HTTPException(404, f"{name}: must be a whole number; got {text!r}")
    return int(text) if text else None


def _shown(side: str, response: Response, scales: dict[str, Scale], colour: str) -> Shown:
    classes = {key: scale.colour(response.values(key)) for key, scale in scales.items()}
    values = {key: [_text(value) for value in response.values(key).tolist()] for key in scales}
    colours = classes.get(colour, [""] * len(response.token_ids))
    tokens = [(visible(text), *rest) for text, *rest in zip(response.tokens, colours, response.observed)]
    mark = MARKS.get(response.row["outcome"], "·")
    return Shown(side, response, tokens, {"values": values, "classes": classes, "ids": response.token_ids}, mark)  # type: ignore[arg-type]


def _legend(scale: Scale) -> dict[str, Any]:
    """Of one quantity, for the template and the script."""
    quantity, (low, high) = scale.quantity, scale.ends
    ends = ("nothing differs" if scale.reach == 0 else f"{low:.3g}", "" if scale.reach == 0 else f"{high:.3g}")
    return {"name": quantity.name, "what": quantity.what, "low": ends[0], "high": ends[1], "classes": scale.classes}


def _text(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.4g}"
