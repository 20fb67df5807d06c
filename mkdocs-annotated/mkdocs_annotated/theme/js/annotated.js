/* Every page can be read without this script. The controls that need it are created or revealed here. */
(() => {
  const root = document.documentElement;
  const find = (selector, parent = document) => parent.querySelector(selector);
  const findAll = (selector, parent = document) => [...parent.querySelectorAll(selector)];

  const append = (tag, properties, parent) => {
    const element = Object.assign(document.createElement(tag), properties);
    parent.append(element);
    return element;
  };

  // Data is loaded as scripts, because a page opened from disk may not fetch files.
  const loadScript = (src) =>
    new Promise((resolve, reject) => {
      append("script", { src, onload: resolve, onerror: reject }, root);
    });

  // Theme: the first visit follows the system; the choice of the button is stored.
  const themeButton = find("#theme");
  themeButton.hidden = false;
  themeButton.onclick = () => {
    const system = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
    const theme = (root.dataset.theme || system) === "dark" ? "light" : "dark";
    root.dataset.theme = theme;
    try {
      localStorage.setItem("theme", theme);
    } catch {
      // Private windows may refuse to store.
    }
  };

  // Menus close on a click elsewhere, on a choice and on Escape.
  const openMenus = () => findAll(".top details[open]");
  document.addEventListener("click", ({ target }) => {
    for (const menu of openMenus()) {
      if (!menu.contains(target) || target.closest(".toc a")) menu.open = false;
    }
  });

  // The menu of a narrow screen opens at the section of the page.
  const navigation = find("#nav");
  navigation?.addEventListener("toggle", (event) => {
    const section = find("details.active", navigation);
    if (event.target === navigation && section) section.open = event.newState === "open";
  });

  // A click on a line number goes to the line. The style sheet draws the number, so it is no link.
  document.addEventListener("click", ({ target, clientX }) => {
    const line = target.closest(".code b");
    if (!line) return;
    const left = line.closest("pre").getBoundingClientRect().left;
    const width = parseFloat(getComputedStyle(line, "::before").width);
    if (clientX - left < width) location.hash = line.id;
  });

  // Only boxes that scroll are stops of the Tab key.
  const resizeObserver = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (target.scrollWidth > target.clientWidth) target.tabIndex = 0;
      else target.removeAttribute("tabindex");
    }
  });
  for (const box of findAll("pre, .scroll, .eq")) resizeObserver.observe(box);

  // A copied selection has its formulas as LaTeX; a browser alone copies one symbol per line.
  document.addEventListener("copy", (event) => {
    const selection = getSelection();
    if (selection.isCollapsed) return;
    const range = selection.getRangeAt(0).cloneRange();
    const formulaAround = (node) => (node.closest ? node : node.parentElement)?.closest("math");
    const first = formulaAround(range.startContainer);
    const last = formulaAround(range.endContainer);
    if (first) range.setStartBefore(first);
    if (last) range.setEndAfter(last);
    const copied = append("div", {}, root);
    copied.append(range.cloneContents());
    const formulas = findAll("math", copied);
    for (const formula of formulas) {
      const mark = formula.getAttribute("display") === "block" ? "$$" : "$";
      // Formulas of the legend have no LaTeX; they are single letters.
      const latex = formula.dataset.latex ?? formula.textContent;
      formula.replaceWith(mark + latex + mark);
    }
    if (formulas.length) {
      // Only rendered text has line breaks, so render it off the screen.
      copied.className = "skip";
      event.clipboardData.setData("text/plain", copied.innerText.trim());
      event.preventDefault();
    }
    copied.remove();
  });

  // Search: a row is found if it contains all words, as substrings.
  const searchButton = find("#search");
  const searchDialog = find("#find");
  const [searchField, searchStatus, searchResults] = searchDialog.children;
  const indexAddress = searchButton.dataset.index;
  const MAX_RESULTS = 50;

  // Append text with its matches in `<mark>`. No HTML is parsed, because the index holds any text.
  const appendMarked = (tag, text, pattern, parent) => {
    const element = append(tag, {}, parent);
    text.split(pattern).forEach((part, i) => {
      if (i % 2) append("mark", { textContent: part }, element);
      else element.append(part);
    });
  };

  // About 200 characters, starting at a word shortly before the first match.
  const excerpt = (text, pattern) => {
    const start = text.lastIndexOf(" ", text.search(pattern) - 60) + 1;
    return text.slice(start).slice(0, 200);
  };

  const appendResult = (page, title, row, words, pattern) => {
    const [anchor, prose, lines] = row;
    const [number, code] =
      lines.find(([, text]) => words.every((word) => text.toLowerCase().includes(word))) ||
      lines.find(([, text]) => pattern.test(text)) ||
      [];
    const lineNumber = number || /^L(\d+)$/.exec(anchor)?.[1];
    const fragment = lineNumber ? "L" + lineNumber : anchor;
    const href = indexAddress.replace("search/index.js", page) + "#" + fragment;
    const link = append("a", { href }, searchResults);
    append("small", { textContent: title + (lineNumber ? ", line " + lineNumber : "") }, link);
    appendMarked("span", excerpt(prose, pattern), pattern, link);
    if (number) appendMarked("code", code.trim(), pattern, link);
  };

  const search = () => {
    const words = searchField.value.toLowerCase().split(/\s+/).filter(Boolean);
    const escaped = words.map((word) => word.replace(/\W/g, "\\$&"));
    const pattern = RegExp("(" + escaped.join("|") + ")", "i");
    let count = 0;
    searchResults.replaceChildren();
    searchStatus.textContent = "";
    if (!words.length) return;
    for (const [page, title, rows] of window.annotatedIndex || []) {
      for (const row of rows) {
        const [, prose, lines] = row;
        const text = [prose, ...lines.map(([, code]) => code)].join("\n").toLowerCase();
        if (!words.every((word) => text.includes(word))) continue;
        count += 1;
        if (count <= MAX_RESULTS) appendResult(page, title, row, words, pattern);
      }
    }
    searchStatus.textContent = count + " found";
  };

  const openSearch = async () => {
    searchDialog.showModal();
    searchField.select();
    if (!window.annotatedIndex) await loadScript(indexAddress).then(search);
  };
  searchButton.hidden = false;
  searchButton.onclick = openSearch;
  searchField.oninput = search;
  searchResults.onclick = () => searchDialog.close();
  searchDialog.onkeydown = (event) => {
    const stops = [searchField, ...searchResults.children];
    const current = stops.indexOf(document.activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      stops[current + step]?.focus();
    } else if (event.key === "Enter" && current === 0) {
      stops[1]?.click();
    }
  };

  // Copy buttons. Their text is an `aria-label`, so that it is not copied with a selection.
  const appendCopyButton = (label, text, parent) => {
    const button = append("button", { className: "tool copy", ariaLabel: label }, parent);
    button.onclick = async () => {
      const written = navigator.clipboard.writeText(await text());
      button.ariaLabel = await written.then(() => "Copied", () => "Not allowed");
      setTimeout(() => { button.ariaLabel = label; }, 1500);
    };
  };

  // The source of the innermost class or function around a line, without comments.
  const blockAround = async (line) => {
    if (!window.annotatedBlocks) await loadScript(find(".path").dataset.blocks);
    const [lines, spans] = window.annotatedBlocks;
    // The spans are in source order, so the last one that contains the line is the innermost.
    const around = spans.filter(([first, last]) => first <= line && line <= last);
    const [first, last] = around.pop() || [1];
    return lines.slice(first - 1, last).filter((text) => text !== null).join("\n") + "\n";
  };

  for (const formula of findAll(".eq > math")) {
    appendCopyButton("Copy LaTeX", () => formula.dataset.latex, formula.parentNode);
  }
  const rows = findAll(".row");
  for (const row of rows) {
    const code = find(".code", row);
    if (!code) continue;
    const firstLine = Number(find("b", code).id.slice(1));
    const bar = append("div", { className: "copies" }, row);
    appendCopyButton("Copy code", () => code.textContent, bar);
    appendCopyButton("Copy block", () => blockAround(firstLine), bar);
  }
  // Linked names in the code are not stops of the Tab key; there are too many.
  for (const link of findAll(".code a")) link.tabIndex = -1;

  // Symbols: hovering or focusing one highlights it in all equations and code of the page.
  const legend = find(".symbols");
  const symbols = findAll("[data-s]");
  // In a drawing, the link that has the focus may be around its symbol.
  const symbolAt = ({ target }) =>
    target.closest?.("[data-s]") || target.closest?.("svg a")?.querySelector("[data-s]");
  let pinned = "";
  const highlight = (id) => {
    for (const symbol of symbols) {
      symbol.classList.toggle("lit", symbol.dataset.s === id);
      if (symbol.type) symbol.ariaPressed = symbol.dataset.s === pinned;
    }
  };
  const pin = (id) => {
    pinned = id;
    highlight(id);
  };
  if (legend) {
    legend.hidden = false;
    pin("");
    const preview = (event) => {
      if (event.pointerType === "touch") return;
      const id = symbolAt(event)?.dataset.s;
      highlight(id || pinned);
      // MathML elements have no tooltip, so set the tooltip of the page.
      find("main").title = id ? find(`[data-s="${id}"] span`, legend).textContent : "";
    };
    document.addEventListener("pointerover", preview);
    document.addEventListener("focusin", preview);
    document.addEventListener("click", (event) => {
      const symbol = symbolAt(event);
      if (!symbol) return;
      // A mouse follows a link. Touch has no hover: a tap pins the symbol, and a second one follows
      // the link of a drawing.
      const link = event.target.closest("a");
      const again = pinned === symbol.dataset.s && link?.closest("svg");
      if (link && (event.pointerType !== "touch" || again)) return;
      event.preventDefault();
      pin(pinned === symbol.dataset.s ? "" : symbol.dataset.s);
    });
  }

  // Keys: Escape closes menus and clears the pinned symbol, `/` searches, `j` and `k` change the row.
  const HEADER_HEIGHT = 99; // pixels, with a margin
  const goToRow = (step, from) => {
    const visible = rows.findIndex((row) => row.getBoundingClientRect().bottom > HEADER_HEIGHT);
    const current = rows.indexOf(from.closest(".row"));
    const row = rows[current < 0 ? visible : current + step];
    if (!row) return;
    row.tabIndex = -1;
    row.focus({ preventScroll: true });
    row.scrollIntoView();
  };
  document.addEventListener("keydown", (event) => {
    const { key, target } = event;
    if (key === "Escape") {
      for (const menu of openMenus()) {
        if (menu.contains(target)) find("summary", menu).focus();
        menu.open = false;
      }
      pin("");
    }
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (target.closest("input, textarea, select, dialog")) return;
    if (key === "/") {
      event.preventDefault();
      openSearch();
    } else if (key === "j" || key === "k") {
      goToRow(key === "j" ? 1 : -1, target);
    }
  });
})();
