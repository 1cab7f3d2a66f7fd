"use strict";
for (const button of document.querySelectorAll("button[data-toggle]")) {
  button.disabled = false;
  button.addEventListener("click", () => {
    const series = button.dataset.toggle;
    const shown = button.getAttribute("aria-pressed") !== "true";
    for (const twin of document.querySelectorAll(`button[data-toggle="${series}"]`)) {
      twin.setAttribute("aria-pressed", String(shown));
    }
    for (const part of document.querySelectorAll(`svg [data-series="${series}"]`)) {
      part.classList.toggle("off", !shown);
    }
  });
}
