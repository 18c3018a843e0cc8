// Without this file every link works; with it keys do, colours change in place, and a token's numbers are shown.
"use strict";

const articles = [...document.querySelectorAll("article")].map((element) => ({
  side: element.dataset.side,
  tokens: [...element.querySelectorAll(".t")],
  data: JSON.parse(element.querySelector("script").textContent),
}));
let chosen = null;

function colourBy(quantity) {
  for (const { tokens, data } of articles) {
    const classes = data.classes[quantity];
    tokens.forEach((token, at) => {
      const kept = [...token.classList].filter((name) => ["t", "observed", "same", "chosen"].includes(name));
      token.className = [...kept, classes[at]].filter(Boolean).join(" ");
    });
  }
  for (const legend of document.querySelectorAll(".legend")) legend.hidden = legend.dataset.quantity !== quantity;
  for (const link of document.querySelectorAll(".colours a")) {
    link.classList.toggle("here", link.dataset.quantity === quantity);
  }
  const address = new URL(location.href);
  address.searchParams.set("colour", quantity);
  history.replaceState(null, "", address);
  for (const link of document.querySelectorAll("a[data-colour]")) {
    const target = new URL(link.href);
    target.searchParams.set("colour", quantity);
    link.href = target.href;
  }
}

function tell(article, at) {
  const panel = document.getElementById("token");
  panel.replaceChildren();
  const text = document.createElement("code");
  text.textContent = article.tokens[at].textContent;
  panel.append(`token ${at} `, text, ` (id ${article.data.ids[at]})`);
  for (const link of document.querySelectorAll(".colours a")) {
    const number = document.createElement("b");
    number.textContent = article.data.values[link.dataset.quantity][at];
    panel.append(` · ${link.textContent} `, number);
  }
}

function choose(article, at) {
  if (at < 0 || at >= article.tokens.length) return;
  chosen?.article.tokens[chosen.at].classList.remove("chosen");
  chosen = { article, at };
  const token = article.tokens[at];
  token.classList.add("chosen");
  token.scrollIntoView({ block: "nearest" });
  history.replaceState(null, "", `#${token.id}`);
  tell(article, at);
}

function placeOf(element) {
  const token = element instanceof Element ? element.closest(".t") : null;
  const article = token && articles.find((one) => one.side === token.id[0]);
  return article ? [article, Number(token.id.slice(1))] : null;
}

function move(by) {
  if (chosen) choose(chosen.article, chosen.at + by);
  else if (articles.length) choose(articles[0], 0);
}

document.addEventListener("click", (event) => {
  const link = event.target instanceof Element && event.target.closest(".colours a");
  if (link && !event.metaKey && !event.ctrlKey && !event.shiftKey) {
    event.preventDefault();
    colourBy(link.dataset.quantity);
  }
  const place = placeOf(event.target);
  if (place) choose(...place);
});

document.addEventListener("pointerover", (event) => {
  const place = placeOf(event.target);
  if (place) tell(...place);
  else if (chosen) tell(chosen.article, chosen.at);
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  if (event.key === "l" || event.key === "ArrowRight") return move(1);
  if (event.key === "h" || event.key === "ArrowLeft") return move(-1);
  const link = [...document.querySelectorAll("[data-key]")].find((one) => one.dataset.key === event.key);
  link?.click();
});

const place = placeOf(document.getElementById(location.hash.slice(1)));
if (place) choose(...place);
