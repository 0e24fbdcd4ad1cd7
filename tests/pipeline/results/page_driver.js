// Looks at the report page in frames of several widths, uses it as a reader would, and writes what it
// saw into the page that holds the frames, as JSON; tests/pipeline/test_page_in_a_browser.py reads it.
"use strict";

function clipped(view) {
  const outside = [...view.document.body.querySelectorAll("*")].filter((found) => {
    const box = found.getBoundingClientRect();
    const inBox = found.parentElement.closest(".scroll");
    return !inBox && box.width > 0 && (box.right > view.innerWidth + 0.5 || box.left < -0.5);
  });
  const cut = [...view.document.querySelectorAll("th, td, dd, dt, select")]
    .filter((found) => found.scrollWidth > found.clientWidth + 1 && found.clientWidth > 0);
  return [...outside, ...cut].map((found) => `${found.tagName}.${found.className}`);
}

function layout(view) {
  const root = view.document.documentElement;
  return {
    width: view.innerWidth,
    beyond: root.scrollWidth - root.clientWidth,
    clipped: clipped(view),
    scrolling: [...view.document.querySelectorAll("table.rows")]
      .map((table) => table.parentElement)
      .filter((box) => box.scrollWidth > box.clientWidth)
      .map((box) => box.ariaLabel),
  };
}

function column(table, place) {
  return [...table.tBodies[0].rows].map((row) => row.cells[place].firstChild.textContent.trim());
}

function sorting(document) {
  const tables = [...document.querySelectorAll("table.rows")];
  const headed = (text) => tables.find((table) => table.tHead.textContent.includes(text));
  const scores = headed("gap recovered");
  const steps = (table, place) => {
    const button = table.tHead.rows[0].cells[place].querySelector("button");
    button.focus();
    const reached = document.activeElement === button;
    return [1, 2, 3].map(() => {
      button.click();
      const heads = [...table.tHead.rows[0].cells].map((head) => head.ariaSort);
      return { heads, reached, column: column(table, place) };
    });
  };
  const given = column(scores, 0);
  const names = steps(scores, 0);
  return { given, names, numbers: steps(scores, 1), differences: steps(scores, 4) };
}

function exploring(view) {
  const section = view.document.getElementById("translations");
  const form = section.querySelector("form");
  const choose = (values) => {
    for (const [name, value] of Object.entries(values)) form[name].value = value;
    form.words.dispatchEvent(new view.Event("input", { bubbles: true }));
    const cards = [...section.querySelectorAll("article")];
    return {
      status: section.querySelector("[role=status]").textContent,
      more: section.querySelector(".more").hidden ? "" : section.querySelector(".more").textContent,
      numbers: cards.map((card) => card.querySelector(".place span").textContent),
      differences: cards.map((card) => card.querySelector(".gain, .loss").textContent),
      first: cards.length ? [...cards[0].querySelectorAll("dt, dd")].map((e) => e.textContent) : [],
    };
  };
  const more = () => {
    section.querySelector(".more").click();
    return section.querySelectorAll("article").length;
  };
  return {
    visible: !form.hidden,
    gains: choose({}),
    losses: choose({ order: "losses" }),
    others: choose({ model: "2", other: "0", order: "losses" }),
    all: choose({ order: "all" }),
    afterMore: more(),
    words: choose({ order: "all", words: "NUMBER 7 OF" }),
    nothing: choose({ words: "no such words" }),
    same: choose({ model: "0", other: "0", words: "", order: "gains" }),
  };
}

window.addEventListener("load", () => {
  const views = [...document.querySelectorAll("iframe")].map((frame) => frame.contentWindow);
  const layouts = views.map(layout);
  const middle = views[1];
  const style = (selector) => middle.getComputedStyle(middle.document.querySelector(selector));
  const found = {
    layouts,
    background: style("body").backgroundColor,
    letters: style("body").color,
    figure: style(".figure img").filter,
    sorting: sorting(middle.document),
    exploring: exploring(middle),
  };
  document.getElementById("found").textContent = JSON.stringify(found);
});
