"use strict";
const all = (selector, root = document) => [...root.querySelectorAll(selector)];

for (const button of all("button[data-toggle]")) {
  button.disabled = false;
  button.addEventListener("click", () => {
    const series = button.dataset.toggle;
    const shown = button.getAttribute("aria-pressed") !== "true";
    for (const twin of all(`button[data-toggle="${series}"]`)) twin.setAttribute("aria-pressed", String(shown));
    for (const part of all(`svg [data-series="${series}"]`)) part.classList.toggle("off", !shown);
  });
}

for (const choice of all(".choose, .steps")) choice.hidden = false;

for (const select of all("select[data-reference]")) {
  const compare = () => {
    for (const part of all("[data-against]")) part.hidden = part.dataset.against !== select.value;
  };
  select.addEventListener("change", compare);
  compare();
}

for (const view of all("[data-life]")) {
  const cells = all("[data-cells] i", view), grid = view.querySelector("[data-cells]");
  const whose = view.querySelector("[data-whose]"), now = view.querySelector("[data-now]");
  const lives = all("[data-steps]").map((life) => all("li[data-set]", life));
  let at = 0;
  const show = (wanted) => {
    const steps = lives[whose.value];
    at = Math.min(Math.max(wanted, 0), steps.length);
    const kinds = cells.map(() => 0);
    for (const step of steps.slice(0, at)) {
      for (const [cell, kind] of step.dataset.set.split(" ").map((change) => change.split(":"))) {
        if (cell === "*") kinds.fill(Number(kind));
        else if (cell) kinds[cell] = Number(kind);
      }
    }
    const touched = at ? steps[at - 1].dataset.set.split(" ").map((change) => change.split(":")[0]) : [];
    cells.forEach((cell, i) => { cell.className = `k${kinds[i]}${touched.includes(String(i)) ? " now" : ""}`; });
    for (const count of all("[data-count]", view)) {
      count.textContent = kinds.filter((kind) => kind === Number(count.dataset.count)).length;
    }
    const name = whose.selectedOptions[0].textContent;
    const left = Number(whose.selectedOptions[0].dataset.left), among = `${steps.length + left}${left ? ` (the first ${steps.length} are on this page)` : ""}`;
    now.textContent = at ? `Step ${at} of ${among}, ${steps[at - 1].textContent}` : `Before the first of ${among} steps.`;
    grid.setAttribute("aria-label", `Huge pages of the ${name} after step ${at} of ${steps.length}`);
  };
  const moves = { first: () => 0, back: () => at - 1, on: () => at + 1, last: () => Infinity };
  const keys = { Home: "first", ArrowLeft: "back", ArrowRight: "on", End: "last" };
  for (const button of all("[data-step]", view)) button.addEventListener("click", () => show(moves[button.dataset.step]()));
  grid.addEventListener("keydown", (event) => {
    if (!(event.key in keys)) return;
    event.preventDefault();
    show(moves[keys[event.key]]());
  });
  whose.addEventListener("change", () => show(Infinity));
  show(Infinity);
}

let closed = [];
addEventListener("beforeprint", () => {
  closed = all("details:not([open])");
  for (const part of closed) part.open = true;
});
addEventListener("afterprint", () => { for (const part of closed) part.open = false; });
