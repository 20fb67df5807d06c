/* Conveniences only: every page reads without this file. */
(() => {
  "use strict";
  const root = document.documentElement;
  const all = (selector) => document.querySelectorAll(selector);

  // The first visit follows the system; the button's choice is kept.
  const button = document.getElementById("theme");
  button.hidden = false;
  button.addEventListener("click", () => {
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    const next = (root.dataset.theme || system) === "dark" ? "light" : "dark";
    root.dataset.theme = next;
    try { localStorage.setItem("theme", next); } catch { /* private windows refuse */ }
  });

  // Menus close on a click elsewhere, on a choice, and on Escape.
  const open = ".top details[open]";
  document.addEventListener("click", (event) => {
    for (const menu of all(open)) {
      const inside = menu.contains(event.target);
      if (!inside || event.target.closest(".toc a")) menu.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const menu of all(open)) {
      const within = menu.contains(document.activeElement);
      menu.open = false;
      if (within) menu.querySelector("summary").focus();
    }
  });
  const nav = document.getElementById("nav");
  nav?.addEventListener("toggle", (event) => {
    const section = nav.querySelector("details.active");
    if (event.target === nav && section) section.open = event.newState === "open";
  });

  // Only what scrolls needs to be reached by keyboard.
  const boxes = all("pre, .scroll, .eq");
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  for (const box of boxes) sizes.observe(box);

  // A browser copies a formula one symbol a line; its LaTeX is what a reader wants.
  document.addEventListener("copy", (event) => {
    const selection = getSelection();
    if (!selection.rangeCount || selection.isCollapsed) return;
    const range = selection.getRangeAt(0).cloneRange();
    const formula = (node) => (node.closest ? node : node.parentElement)?.closest("math");
    const first = formula(range.startContainer);
    const last = formula(range.endContainer);
    if (first) range.setStartBefore(first);
    if (last) range.setEndAfter(last);
    const copy = document.createElement("div");
    copy.append(range.cloneContents());
    const formulas = copy.querySelectorAll("math");
    if (!formulas.length) return;
    for (const math of formulas) {
      const mark = math.getAttribute("display") === "block" ? "$$" : "$";
      math.replaceWith(mark + math.dataset.latex + mark);
    }
    for (const number of copy.querySelectorAll(".l > a")) number.remove();
    copy.style.cssText = "position:absolute;left:-99rem;white-space:normal";
    document.body.append(copy); // only what is laid out has lines
    event.clipboardData.setData("text/plain", copy.innerText.trim());
    copy.remove();
    event.preventDefault();
  });
})();
