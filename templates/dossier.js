// What the page can do beyond being read: draw its charts, sort, filter and fold its tables, and walk its timelines.
// Nothing from a trace is ever parsed as HTML here: names reach the page through textContent and the canvas only.
"use strict";
(() => {
  const ROWS = 12;
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = (token) => getComputedStyle(root).getPropertyValue(token).trim();
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };

  // ---- charts -------------------------------------------------------------------------------------------------

  // Colours in a figure are names of CSS custom properties; only keys that hold a colour are looked at.
  const resolve = (value, key = "") => {
    if (Array.isArray(value)) return value.map((entry) => resolve(entry, key));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, entry]) => [name, resolve(entry, name)]));
    }
    return typeof value === "string" && value.startsWith("--") && /color$/.test(key) ? colour(value) : value;
  };

  const drawPlot = (plot) => {
    const figure = resolve(read(plot.dataset.figure));
    figure.layout.font.family = getComputedStyle(document.body).fontFamily;
    // A legend that wraps would take its lines from the bars; it holds two entries a line on a phone.
    if (figure.layout.showlegend && plot.clientWidth < 560) figure.layout.height += 19 * Math.ceil(figure.data.length / 2 - 1);
    Plotly.react(plot, figure.data, figure.layout, { responsive: true, displayModeBar: false });
    plot.dataset.drawn = "";
  };

  // What lies in a folded section has no size and is not seen: it is drawn, and its tables made, when the section opens.
  const visible = (node) => node.offsetParent !== null;
  const drawAll = (again = false) => {
    for (const figure of document.querySelectorAll("[data-table]:not([data-ready])")) {
      if (!visible(figure)) continue;
      figure.dataset.ready = "";
      new Table(figure);
    }
    for (const figure of document.querySelectorAll("[data-tree]:not([data-ready])")) {
      if (!visible(figure)) continue;
      figure.dataset.ready = "";
      new Tree(figure);
    }
    for (const plot of document.querySelectorAll("[data-figure]")) {
      if (visible(plot) && (again || !("drawn" in plot.dataset))) drawPlot(plot);
    }
    for (const timeline of timelines) if (visible(timeline.canvas)) timeline.draw();
  };

  // ---- tables -------------------------------------------------------------------------------------------------

  class Table {
    constructor(figure) {
      this.body = figure.querySelector("tbody");
      this.rows = [...this.body.rows];
      this.headings = [...figure.querySelectorAll("th")];
      this.expanded = false;
      this.query = "";
      this.headings.forEach((heading, at) => this.makeSortable(heading, at));
      if (this.rows.length > ROWS) this.addFilter(figure);
      if (this.rows.length > ROWS + 3) this.addMore(figure);
      this.show();
    }

    makeSortable(heading, at) {
      const button = element("button", { type: "button", textContent: heading.textContent });
      button.addEventListener("click", () => this.sort(at));
      heading.replaceChildren(button);
    }

    addFilter(figure) {
      const title = figure.querySelector("h4").textContent;
      const box = element("input", { type: "search", placeholder: "Filter", ariaLabel: `Filter ${title}` });
      box.addEventListener("input", () => {
        this.query = box.value.trim().toLowerCase();
        this.show();
      });
      figure.querySelector("figcaption").append(box);
    }

    addMore(figure) {
      this.count = element("span", { ariaLive: "polite" });
      this.button = element("button", { type: "button", className: "plain more-rows" });
      this.button.addEventListener("click", () => {
        this.expanded = !this.expanded;
        this.show();
      });
      figure.querySelector(".scroll").after(element("div", { className: "more" }, this.button, this.count));
    }

    sort(at) {
      const heading = this.headings[at];
      const numeric = this.rows.some((row) => row.cells[at].dataset.v !== undefined);
      const before = heading.getAttribute("aria-sort");
      const direction = before ? (before === "descending" ? "ascending" : "descending") : numeric ? "descending" : "ascending";
      const sign = direction === "descending" ? -1 : 1;
      const text = (row) => row.cells[at].textContent;
      const value = (row) => row.cells[at].dataset.v;
      this.rows.sort((left, right) => {
        if (!numeric) return sign * text(left).localeCompare(text(right), "en", { numeric: true });
        // Whatever has no value stays at the end, whichever way the rest is sorted.
        if (value(left) === undefined || value(right) === undefined) return (value(left) === undefined) - (value(right) === undefined);
        return sign * (value(left) - value(right));
      });
      for (const other of this.headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", direction);
      this.body.append(...this.rows);
      this.show();
    }

    show() {
      let matches = 0;
      let shown = 0;
      for (const row of this.rows) {
        row.searched ??= row.textContent.toLowerCase();
        const match = !this.query || row.searched.includes(this.query);
        const fits = this.expanded || !this.button || matches < ROWS;
        matches += match;
        shown += match && fits;
        row.hidden = !(match && fits);
      }
      if (!this.button) return;
      this.button.hidden = matches <= ROWS;
      this.button.textContent = this.expanded ? `Show the first ${ROWS}` : `Show all ${matches}`;
      this.count.textContent = `${shown} of ${this.rows.length} rows`;
    }
  }

  // ---- trees --------------------------------------------------------------------------------------------------

  // Rows in the order of a walk, each with its depth: what follows deeper lies inside.
  class Tree {
    constructor(figure) {
      this.rows = [...figure.querySelectorAll("tbody tr")].map((row) => ({ row, depth: Number(row.dataset.depth), open: false }));
      const around = [];
      for (const entry of this.rows) {
        around.length = Math.min(around.length, entry.depth);
        entry.parent = around.at(-1);
        around.push(entry);
        entry.text = entry.row.cells[0].textContent.toLowerCase();
        if ("parent" in entry.row.dataset) this.addTwist(entry);
      }
      this.openSome();
      if (this.rows.length > ROWS) this.addFilter(figure);
      this.show();
    }

    addTwist(entry) {
      entry.twist = element("button", { type: "button", className: "twist", ariaLabel: `Layers in ${entry.row.cells[0].textContent}` });
      entry.twist.addEventListener("click", () => {
        entry.open = !entry.open;
        this.show();
      });
      entry.row.cells[0].prepend(entry.twist);
    }

    addFilter(figure) {
      const box = element("input", { type: "search", placeholder: "Filter", ariaLabel: "Filter layers" });
      box.addEventListener("input", () => {
        this.query = box.value.trim().toLowerCase();
        this.show();
      });
      figure.querySelector("figcaption").append(box);
    }

    // Level by level, as long as the page stays short; the first always.
    openSome() {
      for (let depth = 0, shown = 0; depth < 12; depth++) {
        shown = this.rows.filter((entry) => entry.depth <= depth + 1).length;
        if (depth && shown > ROWS + 3) return;
        for (const entry of this.rows) if (entry.depth === depth) entry.open = true;
      }
    }

    show() {
      // A layer that matches is shown with all around it.
      const wanted = new Set();
      if (this.query) {
        for (const entry of this.rows) {
          if (entry.text.includes(this.query)) for (let at = entry; at; at = at.parent) wanted.add(at);
        }
      }
      for (const entry of this.rows) {
        entry.shown = this.query ? wanted.has(entry) : !entry.parent || (entry.parent.shown && entry.parent.open);
        entry.row.hidden = !entry.shown;
        entry.twist?.setAttribute("aria-expanded", String(Boolean(this.query) || entry.open));
      }
    }
  }

  // A whole name, once it is opened, can be copied in one click.
  const addCopy = (details) => {
    if (!details.open || details.querySelector(".copy")) return;
    const button = element("button", { type: "button", className: "plain copy", textContent: "Copy name" });
    button.addEventListener("click", async () => {
      const code = details.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
      } catch {
        getSelection().selectAllChildren(code); // a page opened from a file may lack the clipboard
        document.execCommand("copy");
      }
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = "Copy name"), 1500);
    });
    details.append(button);
  };

  // ---- timeline -----------------------------------------------------------------------------------------------

  const UNITS = [[1e9, "s"], [1e6, "ms"], [1e3, "µs"], [1, "ns"]];
  const duration = (ns) => {
    const shown = Math.abs(Number(ns.toPrecision(3))); // the unit fits what is shown: 999,600 ns is 1 ms, not 1000 µs
    const [factor, unit] = UNITS.find(([least]) => shown >= least) ?? UNITS[3];
    return `${Number((ns / factor).toPrecision(3))}\u00a0${unit}`;
  };

  const tip = document.getElementById("tip");
  const showTip = (event, lines) => {
    tip.replaceChildren(element("strong", { textContent: lines[0] }), ...lines.slice(1).map((line) => element("div", { textContent: line })));
    tip.hidden = false;
    const x = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    const below = event.clientY + 18;
    const y = below + tip.offsetHeight > innerHeight ? event.clientY - tip.offsetHeight - 12 : below;
    tip.style.transform = `translate(${Math.max(8, x)}px, ${Math.max(8, y)}px)`;
  };

  class Timeline {
    constructor(figure) {
      this.data = read(figure.dataset.timeline);
      this.canvas = figure.querySelector("canvas");
      this.context = this.canvas.getContext("2d");
      this.addControls(figure.querySelector(".controls"));
      this.listen();
      this.choose(0);
    }

    addControls(bar) {
      const select = element("select", { ariaLabel: "Which gap" });
      this.data.windows.forEach((window, at) => select.append(element("option", { value: at, textContent: `${at + 1}. ${window.label}` })));
      select.addEventListener("change", () => this.choose(Number(select.value)));
      const button = (text, label, act) => {
        const made = element("button", { type: "button", className: "plain", textContent: text, ariaLabel: label });
        made.addEventListener("click", act);
        return made;
      };
      bar.append(
        select,
        button("−", "Zoom out", () => this.zoom(1.6)),
        button("+", "Zoom in", () => this.zoom(1 / 1.6)),
        button("Gap", "Show the gap", () => this.reset()),
        button("All", "Show the whole window", () => this.look(0, this.window.end)),
      );
    }

    choose(at) {
      this.window = this.data.windows[at];
      this.layOut();
      this.reset();
    }

    // Lanes below each other: a line of label, then a row a nesting depth.
    layOut() {
      let y = 26;
      const rowHeight = this.window.lanes.reduce((sum, lane) => sum + lane.depth, 0) > 26 ? 13 : 17;
      this.rowHeight = rowHeight;
      this.lanes = this.window.lanes.map((lane) => {
        const top = y + 18;
        y = top + lane.depth * rowHeight + 6;
        return { ...lane, top, bottom: y - 6 };
      });
      this.height = y + 6;
      this.canvas.style.height = `${this.height}px`;
    }

    reset() {
      const { gap, end } = this.window;
      if (!gap) return this.look(0, end);
      const pad = Math.max((gap[1] - gap[0]) * 0.35, 2000);
      this.look(gap[0] - pad, gap[1] + pad);
    }

    look(from, to) {
      const { end } = this.window;
      const width = Math.min(Math.max(to - from, 200), Math.max(end * 1.04, 200));
      const centre = (from + to) / 2;
      const least = -end * 0.02;
      this.from = Math.min(Math.max(centre - width / 2, least), Math.max(least, end * 1.02 - width));
      this.to = this.from + width;
      if (visible(this.canvas)) this.draw();
    }

    zoom(factor, around = (this.from + this.to) / 2) {
      this.look(around - (around - this.from) * factor, around + (this.to - around) * factor);
    }

    time(x) {
      return this.from + (x / this.canvas.clientWidth) * (this.to - this.from);
    }

    x(time) {
      return ((time - this.from) / (this.to - this.from)) * this.canvas.clientWidth;
    }

    draw() {
      const { canvas, context } = this;
      const scale = devicePixelRatio || 1;
      const width = canvas.clientWidth;
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(this.height * scale);
      context.setTransform(scale, 0, 0, scale, 0, 0);
      context.clearRect(0, 0, width, this.height);
      context.textBaseline = "middle";
      this.font = `11px ${getComputedStyle(document.body).fontFamily}`;
      context.font = this.font;
      this.palette = {};
      this.drawGaps(width);
      this.drawAxis(width);
      this.drawLanes(width);
      this.drawEvents(width);
    }

    ink(token) {
      return (this.palette[token] ??= colour(token));
    }

    drawGaps(width) {
      const { context } = this;
      const device = this.lanes.filter((lane) => !lane.label.includes("·"));
      const top = device.length ? device[0].top - 18 : 20;
      context.globalAlpha = 0.07;
      context.fillStyle = this.ink("--gap");
      for (const [start, end] of this.window.gaps) context.fillRect(this.x(start), top, this.x(end) - this.x(start), this.height - top);
      if (this.window.gap) {
        const [start, end] = this.window.gap;
        const [left, right] = [this.x(start), this.x(end)];
        context.globalAlpha = 0.12;
        context.fillRect(left, 20, right - left, this.height - 20);
        context.globalAlpha = 0.8;
        context.fillRect(left, 20, 1, this.height - 20);
        context.fillRect(right - 1, 20, 1, this.height - 20);
        context.globalAlpha = 1;
        this.drawGapLabel(Math.max(left, 0), Math.min(right, width), device, `${duration(end - start)} idle`);
      }
      context.globalAlpha = 1;
    }

    drawGapLabel(left, right, device, text) {
      const { context } = this;
      if (!device.length || context.measureText(text).width + 8 > right - left) return;
      const lane = device[0];
      context.textAlign = "center";
      context.fillText(text, (left + right) / 2, lane.top + this.rowHeight / 2);
      context.textAlign = "left";
    }

    drawAxis(width) {
      const { context } = this;
      const rough = (this.to - this.from) / Math.max(2, width / 110);
      const power = 10 ** Math.floor(Math.log10(rough));
      const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
      context.textAlign = "left";
      for (let at = Math.ceil(this.from / step) * step; at < this.to; at += step) {
        const x = this.x(at);
        context.fillStyle = this.ink("--line");
        context.fillRect(Math.round(x), 0, 1, this.height);
        context.fillStyle = this.ink("--quiet");
        if (x + 60 < width) context.fillText(at === 0 ? "0" : duration(at), x + 4, 11);
      }
      context.fillStyle = this.ink("--line");
      context.fillRect(0, 21, width, 1);
    }

    drawLanes(width) {
      const { context } = this;
      context.fillStyle = this.ink("--quiet");
      for (const lane of this.lanes) context.fillText(lane.label, 6, lane.top - 9, width - 12);
    }

    drawEvents(width) {
      const { context } = this;
      const events = this.window.events;
      for (let at = 0; at < events.start.length; at++) {
        const left = Math.max(this.x(events.start[at]), -1);
        const right = Math.min(this.x(events.start[at] + events.length[at]), width + 1);
        if (right < 0 || left > width) continue;
        const top = this.lanes[events.lane[at]].top + events.depth[at] * this.rowHeight;
        const wide = Math.max(right - left - (right - left > 3 ? 0.75 : 0), 1);
        context.fillStyle = this.ink(events.colour[at]);
        context.fillRect(left, top, wide, this.rowHeight - 2);
        if (wide > 26) this.drawName(events, at, left, top, wide);
      }
    }

    drawName(events, at, left, top, wide) {
      const { context } = this;
      const text = this.shortName(events.name[at]);
      const room = Math.floor((wide - 7) / 5.6);
      if (room < 3) return;
      context.save();
      context.beginPath();
      context.rect(left, top, wide - 3, this.rowHeight);
      context.clip();
      const token = events.colour[at];
      context.fillStyle = this.ink(token.startsWith("--lane") ? "--ink" : token === "--elementwise" || token === "--other" ? "--on-light" : "--on-colour");
      context.fillText(text.length > room ? `${text.slice(0, room - 1)}…` : text, left + 4, top + this.rowHeight / 2 - 0.5);
      context.restore();
    }

    shortName(index) {
      return this.data.short[index] ?? this.data.names[index];
    }

    hit(event) {
      const box = this.canvas.getBoundingClientRect();
      const [x, y] = [event.clientX - box.left, event.clientY - box.top];
      const lane = this.lanes.findIndex((entry) => y >= entry.top && y < entry.bottom);
      if (lane < 0) return -1;
      const depth = Math.floor((y - this.lanes[lane].top) / this.rowHeight);
      const events = this.window.events;
      const [from, to] = [this.time(x - 2), this.time(x + 2)];
      let found = -1;
      for (let at = 0; at < events.start.length; at++) {
        if (events.lane[at] !== lane || events.depth[at] !== depth) continue;
        if (events.start[at] > to || events.start[at] + events.length[at] < from) continue;
        if (found < 0 || events.length[at] < events.length[found]) found = at;
      }
      return found;
    }

    point(event) {
      const at = this.hit(event);
      if (at < 0) {
        tip.hidden = true;
        return;
      }
      const events = this.window.events;
      const name = this.data.names[events.name[at]];
      showTip(event, [
        name.length > 300 ? `${name.slice(0, 299)}…` : name,
        `${duration(events.length[at])}, ${duration(events.start[at])} into the window`,
        this.lanes[events.lane[at]].label,
      ]);
    }

    listen() {
      const { canvas } = this;
      let drag = null;
      canvas.addEventListener("pointerdown", (event) => {
        drag = { x: event.clientX, from: this.from, to: this.to };
        canvas.setPointerCapture(event.pointerId);
      });
      canvas.addEventListener("pointermove", (event) => {
        if (!drag) return this.point(event);
        tip.hidden = true;
        const moved = ((drag.x - event.clientX) / canvas.clientWidth) * (drag.to - drag.from);
        this.look(drag.from + moved, drag.to + moved);
      });
      for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => (drag = null));
      canvas.addEventListener("pointerleave", () => (tip.hidden = true));
      canvas.addEventListener("wheel", (event) => {
        if (!event.ctrlKey && !event.metaKey) return; // a plain wheel scrolls the page
        event.preventDefault();
        this.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.time(event.clientX - canvas.getBoundingClientRect().left));
      }, { passive: false });
      canvas.addEventListener("dblclick", (event) => this.zoom(0.5, this.time(event.clientX - canvas.getBoundingClientRect().left)));
      canvas.addEventListener("keydown", (event) => {
        const step = (this.to - this.from) * 0.15;
        const acts = {
          "+": () => this.zoom(1 / 1.6),
          "=": () => this.zoom(1 / 1.6),
          "-": () => this.zoom(1.6),
          0: () => this.reset(),
          ArrowLeft: () => this.look(this.from - step, this.to - step),
          ArrowRight: () => this.look(this.from + step, this.to + step),
        };
        if (!acts[event.key] || event.ctrlKey || event.metaKey) return;
        event.preventDefault();
        acts[event.key]();
      });
    }
  }

  // ---- the page -----------------------------------------------------------------------------------------------

  const timelines = [];
  const prepare = (part) => {
    timelines.push(...[...part.querySelectorAll("[data-timeline]")].map((figure) => new Timeline(figure)));
    for (const nav of part.querySelectorAll(".toc")) {
      const questions = [...nav.parentElement.querySelectorAll(":scope > section > h3")];
      nav.append(...questions.map((heading) => element("a", { href: `#${heading.parentElement.id}`, textContent: heading.textContent })));
    }
  };
  // A folded trace lies in a template, which the browser neither lays out nor searches, until it is first needed.
  const unpack = (trace) => {
    const template = trace.querySelector(":scope > template");
    if (!template) return;
    template.replaceWith(template.content);
    prepare(trace);
  };
  document.addEventListener("toggle", (event) => {
    if (event.target.matches("details.full")) addCopy(event.target);
    if (event.target.matches("details.trace") && event.target.open) unpack(event.target);
    if (event.target.matches("details.trace, details.fold")) drawAll();
  }, true);
  document.addEventListener("pointerover", (event) => {
    const summary = event.target.closest?.("details.full > summary");
    if (summary && !summary.title) summary.title = summary.nextElementSibling.textContent;
  });
  // A link into a folded trace opens it.
  const openTarget = () => {
    const id = location.hash.slice(1);
    if (!id) return;
    const packed = [...document.querySelectorAll("details.trace > template")].find((template) => template.content.getElementById(id));
    if (packed) unpack(packed.parentElement);
    const target = document.getElementById(id);
    const trace = target?.closest("details.trace");
    if (!trace) return;
    trace.open = true;
    if (packed) target.scrollIntoView();
  };
  addEventListener("hashchange", openTarget);
  addEventListener("resize", () => timelines.forEach((timeline) => visible(timeline.canvas) && timeline.draw()));
  dark.addEventListener("change", () => drawAll(true));
  // Paper is white, and has no folds.
  addEventListener("beforeprint", () => {
    root.classList.add("printing");
    for (const trace of document.querySelectorAll("details.trace")) unpack(trace);
    for (const fold of document.querySelectorAll("details.trace, details.fold")) fold.open = true;
    drawAll(true);
  });
  addEventListener("afterprint", () => {
    root.classList.remove("printing");
    drawAll(true);
  });
  prepare(document);
  openTarget();
  drawAll();
})();
