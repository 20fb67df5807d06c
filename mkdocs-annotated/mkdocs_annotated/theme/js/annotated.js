/* Conveniences only: every page reads without this file. What only works here is also made or shown here. */
(() => {
  const page = document;
  const root = page.documentElement;
  const one = (selector, within) => (within || page).querySelector(selector);
  const all = (selector, within) => [...(within || page).querySelectorAll(selector)];
  const on = (type, run) => page.addEventListener(type, run);
  const refuse = (event) => event.preventDefault();
  const make = (tag, values, parent) => {
    const made = Object.assign(page.createElement(tag), values);
    parent.append(made);
    return made;
  };
  // A script, because a page that was opened from disk may load no data.
  const load = (src) => new Promise((onload, onerror) => { make("script", { src, onload, onerror }, root); });

  // The first visit follows the system; the button's choice is kept.
  const look = one("#theme");
  look.hidden = false;
  look.onclick = () => {
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    const next = (root.dataset.theme || system) === "dark" ? "light" : "dark";
    root.dataset.theme = next;
    try { localStorage.setItem("theme", next); } catch { /* private windows refuse */ }
  };

  // Menus close on a click elsewhere, on a choice, and on Escape.
  const menus = () => all(".top details[open]");
  on("click", ({ target, clientX }) => {
    for (const menu of menus()) {
      if (!menu.contains(target) || target.closest(".toc a")) menu.open = false;
    }
    // The number of a line is drawn by the style sheet, and leads to the line all the same.
    const line = target.closest(".code b");
    const edge = line?.closest("pre").getBoundingClientRect().left;
    if (line && clientX - edge < parseFloat(getComputedStyle(line, "::before").width)) location.hash = line.id;
  });
  const nav = one("#nav");
  nav?.addEventListener("toggle", (event) => {
    const section = one("details.active", nav);
    if (event.target === nav && section) section.open = event.newState === "open";
  });

  // Only what scrolls needs to be reached by keyboard.
  const sizes = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  for (const box of all("pre, .scroll, .eq")) sizes.observe(box);

  // A browser copies a formula one symbol a line; its LaTeX is what a reader wants.
  on("copy", (event) => {
    const selection = getSelection();
    if (selection.isCollapsed) return;
    const range = selection.getRangeAt(0).cloneRange();
    const formula = (node) => (node.closest ? node : node.parentElement)?.closest("math");
    const first = formula(range.startContainer);
    const last = formula(range.endContainer);
    if (first) range.setStartBefore(first);
    if (last) range.setEndAfter(last);
    const copied = make("div", {}, root);
    copied.append(range.cloneContents());
    const formulas = all("math", copied);
    if (formulas[0]) {
      for (const math of formulas) {
        const mark = math.getAttribute("display") === "block" ? "$$" : "$";
        math.replaceWith(mark + (math.dataset.latex ?? math.textContent) + mark); // a letter is its own LaTeX
      }
      copied.className = "skip"; // off the screen: only what is laid out has lines
      event.clipboardData.setData("text/plain", copied.innerText.trim());
      refuse(event);
    }
    copied.remove();
  });

  // Search: all words in one row, as substrings.
  const button = one("#search");
  const dialog = one("#find");
  const [field, status, list] = dialog.children;
  const address = button.dataset.index;

  // Built from nodes, never from HTML: the index holds other people's text.
  const show = (tag, text, pattern, parent) => {
    const made = make(tag, {}, parent);
    text.split(pattern).forEach((part, i) => { made.append(i % 2 ? make("mark", { textContent: part }, made) : part); });
  };
  const find = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const pattern = RegExp("(" + words.map((word) => word.replace(/\W/g, "\\$&")).join("|") + ")", "i");
    const holds = (text) => words.every((word) => text.toLowerCase().includes(word));
    let count = 0;
    list.replaceChildren();
    for (const [url, title, rows] of words[0] ? window.annotatedIndex || [] : []) {
      for (const [anchor, prose, lines] of rows) {
        if (!holds([prose, ...lines.map((line) => line[1])].join("\n")) || ++count > 50) continue;
        const [n, code] = lines.find((line) => holds(line[1])) || lines.find((line) => pattern.test(line[1])) || [];
        const at = n || /^L(\d+)$/.exec(anchor)?.[1];
        const place = at ? "L" + at : anchor;
        const link = make("a", { href: address.replace("search/index.js", url) + "#" + place }, list);
        show("small", title + (at ? ", line " + at : ""), /^$/, link);
        show("span", prose.slice(prose.lastIndexOf(" ", prose.search(pattern) - 60) + 1).slice(0, 200), pattern, link);
        if (n) show("code", code.trim(), pattern, link);
      }
    }
    status.textContent = words[0] ? count + " found" : "";
  };
  const open = async () => {
    dialog.showModal();
    field.select();
    if (!window.annotatedIndex) await load(address).then(find);
  };
  button.hidden = false;
  button.onclick = open;
  field.oninput = find;
  list.onclick = () => dialog.close();
  dialog.onkeydown = (event) => {
    const stops = [field, ...list.children];
    const at = stops.indexOf(page.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      refuse(event);
      stops[at + step]?.focus();
    } else if (event.key === "Enter" && !at) stops[1]?.click();
  };

  // Copying. A label is no text, which would be copied with what stands around it.
  const copy = (ariaLabel, text, parent) => {
    const made = make("button", { className: "tool copy", ariaLabel }, parent);
    made.onclick = async () => {
      made.ariaLabel = await navigator.clipboard.writeText(await text()).then(() => "Copied", () => "Not allowed");
      setTimeout(() => { made.ariaLabel = ariaLabel; }, 1500);
    };
  };
  const block = async (n) => {
    if (!window.annotatedBlocks) await load(one(".path").dataset.blocks);
    const [lines, spans] = window.annotatedBlocks;
    // In source order, so that the last one is the innermost.
    const [first, last] = spans.filter((span) => span[0] <= n && n <= span[1]).pop() || [1];
    return lines.slice(first - 1, last).filter((text) => text !== null).join("\n") + "\n";
  };
  // A stop at each name in the code would keep the keyboard from all that follows.
  for (const link of all(".code a")) link.tabIndex = -1;
  for (const math of all(".eq > math")) copy("Copy LaTeX", () => math.dataset.latex, math.parentNode);
  const rows = all(".row");
  for (const row of rows) {
    const code = one(".code", row);
    if (!code) continue;
    const bar = make("div", { className: "copies" }, row);
    copy("Copy code", () => code.textContent, bar);
    copy("Copy block", () => block(+one("b", code).id.slice(1)), bar);
  }

  // A symbol of the paper lights everywhere on the page, in equations and in code.
  const legend = one(".symbols");
  const marks = all("[data-s]");
  const at = (event) => event.target.closest?.("[data-s]");
  let pinned = "";
  const light = (id) => {
    for (const mark of marks) {
      mark.classList.toggle("lit", mark.dataset.s === id);
      if (mark.type) mark.ariaPressed = mark.dataset.s === pinned;
    }
  };
  const pin = (id) => light((pinned = id));
  if (legend) {
    legend.hidden = false;
    pin("");
    // What the pointer or the focus is on wins over what is pinned.
    for (const type of ["pointerover", "focusin"]) {
      on(type, (event) => {
        if (event.pointerType === "touch") return;
        const id = at(event)?.dataset.s;
        light(id || pinned);
        // Elements of a formula have no tooltip of their own; they show that of the page.
        one("main").title = id ? one(`[data-s="${id}"] span`, legend).textContent : "";
      });
    }
    on("click", (event) => {
      const mark = at(event);
      // A finger has no hover: its tap shows the symbol, and only a mouse follows the link.
      if (!mark || (mark.href && event.pointerType !== "touch")) return;
      refuse(event);
      pin(pinned === mark.dataset.s ? "" : mark.dataset.s);
    });
  }

  on("keydown", (event) => {
    const { key, target } = event;
    if (key === "Escape") {
      for (const menu of menus()) {
        if (menu.contains(target)) one("summary", menu).focus();
        menu.open = false;
      }
      pin("");
    }
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest("input, textarea, select, dialog")) return;
    if (key === "/") {
      refuse(event);
      open();
    }
    const step = { j: 1, k: -1 }[key];
    if (!step) return;
    const from = rows.indexOf(target.closest(".row"));
    const next = rows[from < 0 ? rows.findIndex((row) => row.getBoundingClientRect().bottom > 99) : from + step];
    if (!next) return;
    next.tabIndex = -1;
    next.focus({ preventScroll: true });
    next.scrollIntoView();
  });
})();
