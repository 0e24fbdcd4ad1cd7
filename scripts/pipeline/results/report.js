// Make the tables of the report page sortable, and let readers look through the translations.
// Without JavaScript the page shows the same tables, and the largest gains and losses of two models.
"use strict";

const NONE = "–";
const FIRST = 10; // sentences shown at first
const MORE = 20;

/** Return the number at the start of a cell, such as "+0.4 [-0.3, 1.1]", "(42.9)" or "<0.001". */
function numberOf(text) {
  const found = /^[(<]?([+-]?\d+(\.\d+)?)/.exec(text);
  // "<0.001" sorts just below 0.001.
  return found ? Number(found[1]) - (text.startsWith("<") ? 1e-9 : 0) : NaN;
}

/** Order a table's rows by a column; empty cells come last in both directions. */
function sortRows(rows, column, direction) {
  const text = (row) => row.cells[column].textContent.trim();
  const filled = rows.filter((row) => text(row) !== NONE);
  const numeric = isNumeric(rows, column);
  filled.sort((a, b) => {
    const order = numeric
      ? numberOf(text(a)) - numberOf(text(b))
      : text(a).localeCompare(text(b));
    return direction === "ascending" ? order : -order;
  });
  return [...filled, ...rows.filter((row) => text(row) === NONE)];
}

function isNumeric(rows, column) {
  const texts = rows.map((row) => row.cells[column].textContent.trim());
  return column > 0 && texts.every((text) => text === NONE || !isNaN(numberOf(text)));
}

/** Make headings buttons: sort one way, then the other way, then restore the order of the page. */
function makeSortable(table) {
  const body = table.tBodies[0];
  const given = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const steps = ["descending", "ascending", "none"];
    if (!isNumeric(given, column)) steps.splice(0, 2, "ascending", "descending");
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.ariaSort = "none";
    button.addEventListener("click", () => {
      const next = steps[(steps.indexOf(head.ariaSort) + 1) % steps.length];
      for (const other of heads) other.ariaSort = "none";
      head.ariaSort = next;
      body.append(...(next === "none" ? given : sortRows(given, column, next)));
    });
  });
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function signed(value) {
  return (value < 0 ? "-" : "+") + Math.abs(value).toFixed(1);
}

/** Let readers choose two models, an order and words to look for. */
function makeExplorer(section, data) {
  const form = section.querySelector("form");
  const cards = section.querySelector(".samples");
  const more = section.querySelector(".more");
  const count = section.querySelector("[role=status]");
  let found = [];
  let shown = 0;

  function texts(sentence, places) {
    const list = element("dl");
    for (const place of places) {
      const score = ` (${sentence.chrf[place].toFixed(1)})`;
      const text = sentence.texts[place] || "(nothing)";
      list.append(element("dt", {}, data.titles[place] + score));
      list.append(element("dd", { dir: "auto", lang: data.languages[1] }, text));
    }
    return list;
  }

  function card({ sentence, difference }, chosen) {
    const compared = texts(sentence, chosen);
    for (const text of compared.querySelectorAll("dd")) text.className = "compared";
    compared.prepend(
      element("dt", {}, "source"),
      element("dd", { dir: "auto", lang: data.languages[0] }, sentence.source),
      element("dt", {}, "reference"),
      element("dd", { dir: "auto", lang: data.languages[1] }, sentence.reference),
    );
    const side = difference < 0 ? "loss" : "gain";
    const made = element(
      "article",
      { className: "sample" },
      element(
        "p",
        { className: "place" },
        element("span", {}, `sentence ${sentence.number}`),
        element("span", { className: side }, `${signed(difference)} chrF`),
      ),
      compared,
    );
    const others = data.titles.map((_, place) => place).filter((place) => !chosen.includes(place));
    if (others.length) {
      const details = element("details", {}, element("summary", {}, "the other models"));
      details.append(texts(sentence, others));
      made.append(details);
    }
    return made;
  }

  function show(number) {
    const chosen = [...new Set([Number(form.model.value), Number(form.other.value)])];
    cards.append(...found.slice(shown, shown + number).map((row) => card(row, chosen)));
    shown = Math.min(shown + number, found.length);
    more.hidden = shown === found.length;
    more.textContent = `Show more (${found.length - shown} left)`;
  }

  function filter() {
    const [model, other] = [Number(form.model.value), Number(form.other.value)];
    const words = form.words.value.trim().toLocaleLowerCase();
    const rows = data.sentences
      .filter(({ source, reference, texts }) =>
        [source, reference, texts[model], texts[other]]
          .some((text) => text.toLocaleLowerCase().includes(words)))
      .map((sentence) => ({ sentence, difference: sentence.chrf[model] - sentence.chrf[other] }));
    const gains = rows.filter((row) => row.difference > 0);
    const losses = rows.filter((row) => row.difference < 0);
    count.textContent =
      `${data.titles[model]} is better than ${data.titles[other]} on ${gains.length} of ` +
      `${rows.length} sentences${words && " with these words"}, worse on ${losses.length}, ` +
      `by each sentence's chrF.`;
    found = { gains, losses, all: rows }[form.order.value];
    if (form.order.value === "gains") found.sort((a, b) => b.difference - a.difference);
    if (form.order.value === "losses") found.sort((a, b) => a.difference - b.difference);
    cards.replaceChildren();
    shown = 0;
    show(FIRST);
  }

  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", filter);
  more.addEventListener("click", () => show(MORE));
  form.hidden = false;
  filter();
}

for (const table of document.querySelectorAll("table.rows")) makeSortable(table);
const translations = document.getElementById("translations-data");
if (translations) {
  makeExplorer(document.getElementById("translations"), JSON.parse(translations.textContent));
}
