// Draws the pictures of `_picture.py` in a notebook: a table that is changed where it changed, and a line of bars for each
// row. It fetches nothing. Every text is set as text, never as markup: keys, indexes and values are anybody's.
//
// Between two pictures nothing is asked of the kernel: the bars move by this page's own clock, and only while there is
// something to move. The kernel is told when this view comes, is hidden, is seen again, and goes.

const WINDOW = 60; // seconds, as in `_rates.py`
const RECENT = 5; // seconds that "changes a second" is an average of
const STEP = 2; // units of the drawing for each second
const HEIGHT = 16;
const ORDER_AFTER = 1000; // milliseconds between two orders of the rows, at least
const UNREAD = "…"; // as in `_picture.py`
const ABSENT = "not there"; // as there
const LOST = "not live any more: the kernel was restarted, or the connection to it is lost. Run the cell again";
const SVG = "http://www.w3.org/2000/svg";

const COLUMNS = [
  { name: "index", title: "Index", sort: "index" },
  { name: "rate", title: "Changes/s", number: true, sort: "busy" },
  { name: "activity", title: "Last minute" },
  { name: "type", title: "Type" },
  { name: "size", title: "Size", number: true },
  { name: "version", title: "Version", number: true },
  { name: "text", title: "Value" },
];

function make(tag, name, parent) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (parent) parent.append(made);
  return made;
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function withCommas(number) {
  return String(number).replace(/\B(?=(\d{3})+$)/g, ",");
}

export function rateText(rate) {
  if (rate === 0) return "0";
  if (rate < 10) return rate.toFixed(1);
  return withCommas(Math.round(rate));
}

// The counts of the seconds up to `second`. The last of `counts` is that of the second `at`.
function countOf(counts, at, second) {
  const place = counts.length - 1 - (at - second);
  return place >= 0 && place < counts.length ? counts[place] : 0;
}

// How many changes there were a second, over the last whole seconds that are known.
export function rateOf(counts, at, now, since) {
  let sum = 0;
  let known = 0;
  for (let second = now - RECENT; second < now; second++) {
    if (second >= since) known++;
    sum += countOf(counts, at, second);
  }
  return known === 0 ? countOf(counts, at, now) : sum / known;
}

// The path of the bars: one for each second with a change, the highest as high as the drawing.
export function barsOf(counts, at, now) {
  let most = 0;
  for (let second = now - WINDOW + 1; second <= now; second++) most = Math.max(most, countOf(counts, at, second));
  let path = "";
  for (let second = now - WINDOW + 1; most > 0 && second <= now; second++) {
    const count = countOf(counts, at, second);
    if (count === 0) continue;
    const x = (second - now + WINDOW - 0.5) * STEP;
    path += `M${x} ${HEIGHT}V${(HEIGHT - Math.max(1, (count / most) * (HEIGHT - 1))).toFixed(1)}`;
  }
  return { path, most };
}

class Bars {
  constructor(parent) {
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("class", "shmvar-bars");
    this.svg.setAttribute("viewBox", `0 0 ${WINDOW * STEP} ${HEIGHT}`);
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("role", "img");
    this.ground = document.createElementNS(SVG, "path");
    this.ground.setAttribute("class", "shmvar-ground");
    this.bars = document.createElementNS(SVG, "path");
    this.svg.append(this.ground, this.bars);
    parent.append(this.svg);
    this.shown = null;
  }

  // Returns whether there is anything that will move.
  draw(counts, at, now, since) {
    const { path, most } = barsOf(counts, at, now);
    const from = Math.min(Math.max(since - now + WINDOW - 1, 0), WINDOW) * STEP;
    const ground = `M${from} ${HEIGHT - 0.5}H${WINDOW * STEP}`; // what is known, also of seconds without a change
    if (this.shown !== path + ground) {
      this.shown = path + ground;
      this.bars.setAttribute("d", path);
      this.ground.setAttribute("d", ground);
      const label = most === 0 ? "no change in the last minute" : `in the last minute up to ${withCommas(most)} a second`;
      this.svg.setAttribute("aria-label", label);
    }
    return most > 0;
  }
}

class Row {
  constructor(body) {
    this.line = make("tr", "", body);
    this.cells = {};
    for (const { name, number } of COLUMNS) {
      const cell = make(name === "index" ? "th" : "td", `shmvar-${name}${number ? " shmvar-number" : ""}`, this.line);
      if (name === "index") cell.scope = "row";
      this.cells[name] = cell;
    }
    this.bars = new Bars(this.cells.activity);
    this.data = null;
    this.turn = false;
  }

  show(data, flash) {
    const before = this.data;
    this.data = data;
    setText(this.cells.index, data.index);
    this.cells.index.title = data.whole;
    setText(this.cells.type, data.type);
    setText(this.cells.size, data.size);
    setText(this.cells.version, data.version ? withCommas(data.version) : "");
    setText(this.cells.text, data.text);
    this.cells.text.title = data.text === UNREAD ? "large, or it needs code to be rebuilt: it is not read" : data.text;
    this.line.classList.toggle("shmvar-gone", data.gone);
    this.line.classList.toggle("shmvar-absent", data.gone && data.text === ABSENT);
    this.cells.text.classList.toggle("shmvar-wrong", data.wrong);
    if (flash && before !== null && before.version !== data.version) {
      // Another name begins the same animation anew.
      this.turn = !this.turn;
      this.line.classList.toggle("shmvar-fresh-1", this.turn);
      this.line.classList.toggle("shmvar-fresh-2", !this.turn);
    }
  }

  draw(at, now, since) {
    const { counts, at_least } = this.data;
    const rate = rateOf(counts, at, now, since);
    setText(this.cells.rate, (at_least && rate > 0 ? "≥ " : "") + rateText(rate));
    this.cells.rate.classList.toggle("shmvar-quiet", rate === 0);
    return this.bars.draw(counts, at, now, since);
  }

  recent(at, now) {
    let sum = 0;
    for (let second = now - 2 * RECENT; second <= now; second++) sum += countOf(this.data.counts, at, second);
    return sum;
  }
}

function byIndex(one, other) {
  const [a, b] = [one.data, other.data];
  if ((a.number === null) !== (b.number === null)) return a.number === null ? 1 : -1;
  if (a.number === null) return a.whole < b.whole ? -1 : a.whole > b.whole ? 1 : 0;
  const [x, y] = [BigInt(a.number), BigInt(b.number)];
  return x < y ? -1 : x > y ? 1 : 0;
}

class Table {
  constructor(el) {
    this.root = make("div", "shmvar-watch", el);
    const head = make("div", "shmvar-head", this.root);
    this.key = make("strong", "shmvar-key", head);
    this.count = make("span", "", head);
    const used = make("span", "shmvar-used", head);
    this.meter = make("span", "shmvar-meter", used);
    this.meter.setAttribute("aria-hidden", "true");
    this.fill = make("span", "shmvar-fill", this.meter);
    this.used = make("span", "", used);
    const total = make("span", "shmvar-total", head);
    this.bars = new Bars(total);
    this.rate = make("span", "", total);
    this.state = make("span", "shmvar-state", head);
    this.state.setAttribute("role", "status");
    const scroll = make("div", "shmvar-scroll", this.root);
    this.table = make("table", "", scroll);
    this.caption = make("caption", "shmvar-unseen", this.table);
    this.heads = new Map();
    const titles = make("tr", "", make("thead", "", this.table));
    for (const column of COLUMNS) this.addTitle(titles, column);
    this.body = make("tbody", "", this.table);
    this.more = make("div", "shmvar-more", this.root);
    this.rows = new Map();
    this.sort = "busy";
    this.orderedAt = -Infinity;
    this.markSort();
    this.picture = null;
    this.base = null;
    this.timer = null;
    this.moves = true;
  }

  addTitle(titles, { name, title, number, sort }) {
    const cell = make("th", `shmvar-${name}${number ? " shmvar-number" : ""}`, titles);
    cell.scope = "col";
    if (!sort) {
      cell.textContent = title;
      return;
    }
    const button = make("button", "", cell);
    button.type = "button";
    button.textContent = title;
    button.title = sort === "busy" ? "the busiest first" : "in the order of the indexes";
    button.addEventListener("click", () => {
      this.sort = sort;
      this.markSort();
      this.order(true);
    });
    this.heads.set(sort, cell);
  }

  markSort() {
    for (const [sort, cell] of this.heads) {
      cell.setAttribute("aria-sort", sort !== this.sort ? "none" : sort === "busy" ? "descending" : "ascending");
    }
  }

  // `age`: the seconds since the picture was made.
  show(picture, age, flash) {
    if (!picture || !picture.head) return;
    this.picture = picture;
    this.base = { at: picture.at + age, when: performance.now() };
    const { head } = picture;
    setText(this.key, head.key);
    setText(this.caption, `Variables of the segment ${head.key}`);
    if (head.count !== undefined) {
      setText(this.count, `${head.count} ${head.count === "1" ? "variable" : "variables"}`);
      setText(this.used, `${head.used} of ${head.size} used`);
      this.fill.style.width = `${Math.min(100 * head.part, 100).toFixed(1)}%`;
      this.fill.classList.toggle("shmvar-full", head.part > 0.9);
    }
    setText(this.state, picture.why || "");
    this.root.classList.toggle("shmvar-ended", picture.state === "ended");
    setText(this.more, picture.more);
    const left = new Map(this.rows);
    let isNew = false;
    for (const data of picture.rows) {
      let row = this.rows.get(data.id);
      if (row === undefined) {
        row = new Row(this.body);
        this.rows.set(data.id, row);
        isNew = true;
      }
      left.delete(data.id);
      row.show(data, flash);
    }
    for (const [id, row] of left) {
      row.line.remove();
      this.rows.delete(id);
    }
    this.table.hidden = picture.rows.length === 0;
    this.draw();
    this.order(isNew && left.size === this.rows.size);
  }

  // Nothing will come any more, and what stands here would look as if nothing changed.
  lose() {
    setText(this.state, LOST);
    this.root.classList.add("shmvar-ended");
  }

  now() {
    return Math.floor(this.base.at + (performance.now() - this.base.when) / 1000);
  }

  draw() {
    const { at, since, head } = this.picture;
    const [now, from] = [this.now(), since ?? at];
    const [told, made] = [head.told ?? [], head.made ?? []];
    let moves = this.bars.draw(told, at, now, from);
    const [seen, given] = [rateOf(told, at, now, from), rateOf(made, at, now, from)];
    const least = given > seen;
    setText(this.rate, `${least ? "≥ " : ""}${rateText(seen)} changes/s`);
    this.rate.title = least
      ? `Changes that came between two looks are one here. The segment gave ${rateText(given)} versions a second ` +
        "to variables, locks and queues."
      : "";
    for (const row of this.rows.values()) moves = row.draw(at, now, from) || moves;
    this.moves = moves;
  }

  order(atOnce) {
    const now = performance.now();
    // Rows do not run away below the pointer.
    if (!atOnce && (now - this.orderedAt < ORDER_AFTER || this.body.matches(":hover"))) return;
    this.orderedAt = now;
    const rows = [...this.rows.values()];
    if (this.sort === "index") {
      rows.sort(byIndex);
    } else {
      const [at, second] = [this.picture.at, this.now()];
      const place = new Map(this.picture.rows.map((data, number) => [data.id, number]));
      const busy = new Map(rows.map((row) => [row, row.recent(at, second)]));
      rows.sort((a, b) => busy.get(b) - busy.get(a) || place.get(a.data.id) - place.get(b.data.id));
    }
    let next = this.body.firstElementChild;
    for (const { line } of rows) {
      if (line === next) next = next.nextElementSibling;
      else this.body.insertBefore(line, next);
    }
  }

  // Once a second, while it is visible and something moves.
  tick() {
    this.draw();
    this.order(false);
  }
}

function render({ model, el }) {
  const table = new Table(el);
  const view = Math.random().toString(36).slice(2) + Date.now().toString(36);
  let inSight = false;
  let told = null;
  let answered = 0;
  let timer = null;
  let leaving = null;

  const isVisible = () => inSight && !document.hidden;

  function say(message) {
    try {
      model.send({ view, ...message });
    } catch (error) {
      console.warn("shmvar: the kernel cannot be told", error);
    }
  }

  function move() {
    timer = null;
    if (!isVisible() || table.picture === null) return;
    table.tick();
    if (table.moves) timer = setTimeout(move, 1000);
  }

  function goOn() {
    if (timer === null && isVisible() && table.picture !== null) timer = setTimeout(move, 1000);
  }

  function tell(always) {
    const visible = isVisible();
    if (!always && visible === told) return;
    told = visible;
    say({ kind: "view", visible });
    if (visible && table.picture !== null) table.tick();
    goOn();
  }

  function showNext() {
    const picture = model.get("picture");
    table.show(picture, 0, isVisible());
    goOn();
    if (picture.state === "paused" || (picture.asked ?? 0) !== answered) {
      answered = picture.asked ?? 0;
      tell(true);
    }
  }

  // Tells that the kernel's end of this widget is gone: nothing else does where a kernel is restarted.
  const onLost = () => {
    if (model.get("picture")?.state !== "ended") table.lose();
  };

  const first = model.get("picture");
  answered = first?.asked ?? 0;
  // This one may have been made long ago: it was kept for a page that is loaded anew, or with the notebook.
  table.show(first, Math.max(0, Date.now() / 1000 - (first?.wall ?? 0)), false);
  // A page that goes is hidden, too, after it has said so.
  const onVisibility = () => leaving === null && tell(false);
  const onShow = (event) => event.persisted && tell(true);
  // A page that goes may have no time left at `pagehide`. If it stays after all, this view is there again.
  const onHide = () => {
    say({ kind: "gone" });
    leaving ??= setTimeout(() => {
      leaving = null;
      tell(true);
    }, 1000);
  };
  const observer = new IntersectionObserver((entries) => {
    inSight = entries[entries.length - 1].isIntersecting;
    tell(false);
  });
  observer.observe(table.root);
  model.on("change:picture", showNext);
  model.on("comm_live_update", onLost);
  document.addEventListener("visibilitychange", onVisibility);
  window.addEventListener("pageshow", onShow);
  window.addEventListener("beforeunload", onHide);
  window.addEventListener("pagehide", onHide);

  return () => {
    observer.disconnect();
    clearTimeout(timer);
    clearTimeout(leaving);
    model.off("change:picture", showNext);
    model.off("comm_live_update", onLost);
    document.removeEventListener("visibilitychange", onVisibility);
    window.removeEventListener("pageshow", onShow);
    window.removeEventListener("beforeunload", onHide);
    window.removeEventListener("pagehide", onHide);
    say({ kind: "gone" });
  };
}

export default { render };
