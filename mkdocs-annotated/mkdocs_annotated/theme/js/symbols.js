/* A symbol of the paper lights everywhere on the page, in equations and in code. */
(() => {
  "use strict";
  const main = document.querySelector("main");
  const legend = document.querySelector(".symbols");
  const marks = document.querySelectorAll("[data-s]");
  const at = (event) => event.target.closest?.("[data-s]");
  let pinned = "";

  const light = (id) => {
    for (const mark of marks) {
      mark.classList.toggle("lit", mark.dataset.s === id);
      if (mark.type) mark.ariaPressed = String(mark.dataset.s === pinned);
    }
  };
  const pin = (id) => light((pinned = id));
  legend.hidden = false;
  light("");

  // What the pointer or the focus is on wins over what is pinned.
  for (const type of ["pointerover", "focusin"]) {
    document.addEventListener(type, (event) => {
      if (event.pointerType === "touch") return;
      const id = at(event)?.dataset.s;
      light(id || pinned);
      // Elements of a formula have no tooltip of their own; they show that of the page.
      main.title = id ? legend.querySelector(`[data-s="${id}"] span`).textContent : "";
    });
  }
  document.addEventListener("click", (event) => {
    const mark = at(event);
    if (!mark) return;
    // A finger has no hover: its tap shows the symbol, and only a mouse follows the link.
    if (mark.href && event.pointerType !== "touch") return;
    event.preventDefault();
    pin(pinned === mark.dataset.s ? "" : mark.dataset.s);
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") pin("");
  });
})();
