"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const root = document.getElementById("page");
  const { summary } = data;
  const count = new Intl.NumberFormat("en");
  const first = data.start_ms / 1000;
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const COLOURS = {
    report: "--c0", "report.response": "--c1", sync: "--c2", "sync.response": "--c3",
    command: "--c4", "command.response": "--c5", status: "--c6", other: "--c7",
  };
  const colour = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Everything that comes from the recording is put in place as text.
  function el(tag, attributes = {}, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (name === "class") node.className = value;
      else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else node.setAttribute(name, value);
    }
    node.append(...children.filter(child => child !== null && child !== undefined));
    return node;
  }

  const plural = (n, noun) => `${count.format(n)} ${noun}${n === 1 ? "" : "s"}`;
  const moment = text => (text ? text.replace("T", " ").replace(/(\.\d{3})\d*Z$/, "$1") : "");
  const trimmed = (n, digits) => Number(n.toPrecision(digits)).toString();
  function size(bytes) {
    if (bytes < 1e4) return `${count.format(bytes)} B`;
    return bytes < 1e7 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
  }
  function span(s) {
    if (s < 1) return `${Math.round(s * 1000)} ms`;
    if (s < 60) return `${trimmed(s, 3)} s`;
    const n = Math.round(s);
    if (n < 3600) return `${Math.floor(n / 60)} min ${n % 60 ? `${n % 60} s` : ""}`.trim();
    if (n < 86400) return `${Math.floor(n / 3600)} h ${Math.floor(n / 60) % 60 ? `${Math.floor(n / 60) % 60} min` : ""}`.trim();
    return `${Math.floor(n / 86400)} d ${Math.floor(n / 3600) % 24 ? `${Math.floor(n / 3600) % 24} h` : ""}`.trim();
  }
  function ms(time) {
    if (time === null || time === undefined) return "";
    return time >= 1000 ? `${trimmed(time / 1000, 3)} s` : `${trimmed(time, 3)} ms`;
  }

  // Charts: all share one stretch of time, so that what is picked in one is seen in all.

  const charts = new Set();
  const lastBucket = data.timeline.t.length ? data.timeline.t[data.timeline.t.length - 1] : 0;
  const fullFrom = first + (data.timeline.t[0] || 0) / 1000;
  const fullTo = first + (lastBucket + data.timeline.width_ms) / 1000;
  let shown = [fullFrom, fullTo];
  let zooming = false;
  const whole = el("button", { onclick: () => zoom(fullFrom, fullTo), hidden: "" }, "Show the whole time");

  function zoom(from, to) {
    // Charts tell of their change a moment later, and of changes that come from here, too.
    if (zooming || !(to > from) || (from === shown[0] && to === shown[1])) return;
    zooming = true;
    shown = [from, to];
    for (const chart of charts) chart.plot?.setScale("x", { min: from, max: to });
    whole.hidden = from <= fullFrom && to >= fullTo;
    zooming = false;
  }

  const seen = new IntersectionObserver(entries => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      seen.unobserve(entry.target);
      entry.target.chart.draw();
    }
  }, { rootMargin: "300px" });

  // A chart is drawn when it comes into sight, and again for another width or colour scheme.
  function chart(height, options, prox = 24) {
    const box = el("div", { class: "plot" });
    box.style.minHeight = `${height + 30}px`;
    const self = {
      plot: null,
      draw() {
        self.plot?.destroy();
        const { opts, columns } = options();
        const width = Math.max(box.clientWidth, 240);
        self.plot = new uPlot({
          width, height,
          tzDate: ts => uPlot.tzDate(new Date(ts * 1e3), "Etc/UTC"),
          cursor: { sync: { key: "time", scales: ["x", null] }, focus: { prox }, drag: { x: true, y: false } },
          ...opts,
          scales: { x: { time: true, range: (u, min, max) => (min === null ? shown : [min, max]), min: shown[0], max: shown[1] }, ...opts.scales },
          hooks: {
            setScale: [(u, key) => { if (key === "x" && u.status === 1) zoom(u.scales.x.min, u.scales.x.max); }],
            ready: [u => u.over.addEventListener("dblclick", () => zoom(fullFrom, fullTo))],
            ...opts.hooks,
          },
        }, columns, box);
        self.plot.setScale("x", { min: shown[0], max: shown[1] });
      },
      gone() { charts.delete(self); seen.unobserve(box); self.plot?.destroy(); },
    };
    box.chart = self;
    charts.add(self);
    seen.observe(box);
    return box;
  }

  let resizing = 0;
  let width = window.innerWidth;
  window.addEventListener("resize", () => {
    if (window.innerWidth === width) return;
    width = window.innerWidth;
    clearTimeout(resizing);
    resizing = setTimeout(() => charts.forEach(chart => chart.plot && chart.draw()), 150);
  });
  dark.addEventListener("change", () => charts.forEach(chart => chart.plot && chart.draw()));

  const font = "12px system-ui, 'DejaVu Sans', sans-serif";
  const axis = more => ({
    stroke: colour("--faint"), font, labelFont: font, labelSize: 18, labelGap: 2,
    grid: { stroke: colour("--grid"), width: 1 }, ticks: { stroke: colour("--line"), width: 1, size: 5 }, ...more,
  });
  // The time of day, no more exact than the labels are apart, with the date where it begins.
  function clock(u, splits, n, space, step) {
    let day = "";
    return splits.map(ts => {
      const text = new Date(Math.round(ts * 1e3)).toISOString();
      const time = step >= 86400 ? "" : text.slice(11, step >= 60 ? 16 : step >= 1 ? 19 : 23);
      const date = text.slice(0, 10) === day ? "" : (day = text.slice(0, 10));
      return [time, date].filter(Boolean).join("\n");
    });
  }
  const hours = () => axis({ values: clock, space: 76 });
  const when = { label: "UTC", value: (u, ts) => (ts === null ? "--" : moment(new Date(ts * 1e3).toISOString()).replace("Z", "")) };
  // Wide enough for the widest of its labels.
  const fit = (u, values) => 16 + Math.max(24, ...(values || []).map(text => 7.2 * String(text ?? "").length));

  function traffic() {
    const { t, kinds, refusals, width_ms } = data.timeline;
    const times = t.map(ms => first + (ms + width_ms / 2) / 1000);
    const hasRefusals = refusals.some(n => n > 0);
    return chart(240, () => {
      const visible = kinds.map(() => true);
      // Drawn from the back: each column holds its own kind and all below it.
      const stacked = () => {
        const sums = t.map(() => 0);
        const columns = kinds.map((lane, n) => (visible[n] ? lane.counts.map((c, i) => (sums[i] += c)) : t.map(() => null)));
        return [times, ...columns.reverse(), ...(hasRefusals ? [refusals] : [])];
      };
      const series = kinds.map((lane, n) => ({
        label: lane.kind, scale: "y", fill: colour(COLOURS[lane.kind]), stroke: colour(COLOURS[lane.kind]), width: 0,
        points: { show: false }, paths: uPlot.paths.bars({ size: [1, Infinity], align: 0 }),
        value: (u, v, s, i) => (i === null ? "--" : count.format(lane.counts[i])),
      })).reverse();
      return {
        columns: stacked(),
        opts: {
          scales: { y: { range: (u, min, max) => [0, Math.max(1, max * 1.08)] } },
          series: [when, ...series, ...(hasRefusals ? [{
            label: "refused", stroke: colour("--bad"), width: 1.5, points: { show: false },
            value: (u, v) => (v === null ? "--" : count.format(v)),
          }] : [])],
          axes: [hours(), axis({ label: `messages in ${span(width_ms / 1000)}`, size: fit, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1e3, 2e3, 5e3, 1e4, 2e4, 5e4, 1e5, 2e5, 5e5, 1e6, 1e7, 1e8, 1e9], values: (u, splits) => splits.map(n => count.format(n)) })],
          hooks: {
            setScale: [(u, key) => { if (key === "x" && u.status === 1) zoom(u.scales.x.min, u.scales.x.max); }],
            setSeries: [(u, n, change) => {
              if (n === null || n > kinds.length || !("show" in change)) return;
              visible[kinds.length - n] = change.show;
              u.setData(stacked(), false);
              u.setScale("x", { min: shown[0], max: shown[1] });
            }],
          },
        },
      };
      // A column that stands out would let those behind it shine through.
    }, -1);
  }

  function roundTrips() {
    return chart(220, () => {
      const tables = data.round_trips.map(kind => {
        // One unit in the last place, so that a time of nothing can stand on a logarithmic axis.
        const floor = values => values.map(v => Math.max(v, 0.001));
        return [kind.t.map(t => first + t / 1000), floor(kind.min), floor(kind.mean), floor(kind.max)];
      });
      const columns = tables.length > 1 ? uPlot.join(tables) : tables[0];
      const series = [when];
      const bands = [];
      const sparse = columns[0].length < 120;
      for (const kind of data.round_trips) {
        const stroke = colour(COLOURS[kind.kind]);
        const edge = name => ({ label: `${kind.kind} ${name}`, stroke, width: 1, dash: [2, 3], spanGaps: true, points: { show: false }, value: (u, v) => ms(v) || "--", alpha: 0.8 });
        bands.push({ series: [series.length + 2, series.length], fill: `${stroke}26` });
        series.push(edge("min"), { label: `${kind.kind} mean`, stroke, width: 2, spanGaps: true, points: { show: sparse, size: 5, fill: stroke }, value: (u, v) => ms(v) || "--" }, edge("max"));
      }
      return {
        columns,
        opts: {
          series, bands,
          scales: { y: { distr: 3, log: 10 } },
          axes: [hours(), axis({ label: "round trip", size: fit, values: (u, splits) => splits.map(v => (v === null || Math.abs(Math.log10(v) % 1) > 1e-9 ? null : ms(v))) })],
        },
      };
    });
  }

  function values(series) {
    const { words = [], min = [], max = [], unit = "", scale } = series;
    const times = series.t.map(t => first + t / 1000);
    const digits = scale > 0 ? { minimumFractionDigits: scale, maximumFractionDigits: scale } : { maximumFractionDigits: 6 };
    const exact = new Intl.NumberFormat("en", digits);
    const say = v => {
      if (v === null || v === undefined) return "--";
      return words.length ? words[v] ?? "" : `${exact.format(v)}${unit ? ` ${unit}` : ""}`;
    };
    const short = word => (word && word.length > 16 ? `${word.slice(0, 15)}…` : word);
    return chart(150, () => {
      const stroke = colour("--c0");
      const dots = { show: times.length < 80, size: 5, fill: stroke };
      const paths = words.length ? uPlot.paths.stepped({ align: 1 }) : uPlot.paths.linear();
      const list = [when, { label: "value", stroke, width: 1.5, points: dots, paths, value: (u, v) => say(v) }];
      const columns = [times, series.v];
      const bands = [];
      if (min.length) {
        const edge = label => ({ label, stroke: `${stroke}66`, width: 1, points: { show: false }, paths, value: (u, v) => say(v) });
        list.push(edge("lowest"), edge("highest"));
        columns.push(min, max);
        bands.push({ series: [3, 2], fill: `${stroke}33` });
      }
      const range = words.length
        ? () => [-0.5, Math.max(1, words.length - 1) + 0.5]
        : (u, lo, hi) => (lo === null ? [0, 1] : lo === hi ? [lo - Math.max(1, Math.abs(lo) * 0.05), hi + Math.max(1, Math.abs(hi) * 0.05)] : uPlot.rangeNum(lo, hi, 0.1, true));
      const y = words.length
        ? axis({ size: fit, splits: () => words.map((_, n) => n), values: (u, splits) => splits.map(n => short(words[n])) })
        : axis({ size: fit, space: 24, label: unit || undefined });
      return { columns, opts: { series: list, bands, scales: { y: { range } }, axes: [hours(), y] } };
    });
  }

  // Tables: a header to sort by, a filter, and no more rows than a page takes well.

  function table(columns, rows, { matches, sort = null, most = 15 } = {}) {
    let order = sort;
    let limit = most;
    const body = el("tbody");
    const more = el("p", { class: "faint" });
    const heads = columns.map((column, n) => el("th", {
      class: column.number ? "n" : "", scope: "col", tabindex: "0", "aria-sort": "none",
      onclick: () => by(n), onkeydown: event => { if (event.key === "Enter") by(n); },
    }, column.title));
    function by(n) {
      const down = order && order.n === n ? !order.down : Boolean(columns[n].number);
      order = { n, down };
      fill();
    }
    function fill() {
      let list = matches ? rows.filter(matches) : rows;
      if (order) {
        const { key, text } = columns[order.n];
        const of = key || text;
        list = [...list].sort((a, b) => {
          const [x, y] = [of(a) ?? "", of(b) ?? ""];
          const less = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true });
          return order.down ? -less : less;
        });
      }
      heads.forEach((head, n) => head.setAttribute("aria-sort", order && order.n === n ? (order.down ? "descending" : "ascending") : "none"));
      body.replaceChildren(...list.slice(0, limit).map(row => el("tr", {}, ...columns.map(column => {
        const content = column.node ? column.node(row) : column.text(row);
        const shown = typeof content === "number" ? (content === 0 ? "" : count.format(content)) : content ?? "";
        const bad = column.bad && column.bad(row) ? " bad" : "";
        return el("td", { class: (column.number ? "n" : column.whole ? "k" : "") + bad }, shown);
      }))));
      if (!list.length) body.append(el("tr", {}, el("td", { colspan: String(columns.length), class: "faint" }, "no match")));
      more.replaceChildren();
      if (list.length > limit) {
        more.append(`${count.format(limit)} of ${count.format(list.length)} `, el("button", { onclick: () => { limit *= 10; fill(); } }, "Show more"));
      }
    }
    fill();
    return { node: el("div", {}, el("div", { class: "card scroll" }, el("table", { class: "list" }, el("thead", {}, el("tr", {}, ...heads)), body)), more), fill() { limit = most; fill(); } };
  }

  // The filter.

  const input = el("input", { type: "search", placeholder: "Filter by device, gateway or data point", "aria-label": "Filter by device, gateway or data point", autocomplete: "off", spellcheck: "false" });
  const found = el("span", { class: "faint", role: "status" });
  let terms = [];
  const match = (...texts) => {
    if (!terms.length) return true;
    const text = texts.join("\n").toLowerCase();
    return terms.every(term => text.includes(term));
  };
  const filtered = [];
  let typing = 0;
  function filter() {
    terms = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    filtered.forEach(fill => fill());
  }
  input.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(filter, 120); });
  function only(cid) {
    input.value = cid;
    filter();
    input.scrollIntoView({ block: "start" });
  }

  // The page.

  const section = (title, note, ...children) => el("section", {}, el("h2", {}, title), note ? el("p", { class: "faint" }, note) : null, ...children);
  const refusals = summary.codes.filter(code => code.code !== 0);
  const refused = refusals.reduce((sum, code) => sum + code.count, 0);
  const asked = summary.round_trips.reduce((sum, kind) => sum + kind.requests, 0);
  const answered = summary.round_trips.reduce((sum, kind) => sum + kind.answered, 0);
  const slowest = summary.round_trips.reduce((one, other) => (other.p99_ms ?? 0) > (one?.p99_ms ?? 0) ? other : one, null);
  const tile = (title, value, bad) => el("div", { class: bad ? "tile bad" : "tile" }, el("b", {}, value), title);

  document.title = `${data.title} – tuyagw`;
  const header = el("header", {}, el("h1", {}, data.title), el("p", { class: "faint" },
    summary.first ? `${moment(summary.first)} to ${moment(summary.last)} UTC` : "no records",
    summary.parts > 1 ? `, in ${summary.parts} parts` : ""));
  root.append(header);
  if (summary.left_out) {
    const { records, bad_lines, first_bad_line, why } = summary.left_out;
    if (records) root.append(el("p", { class: "tile bad" }, `${plural(records, "record")} left out by the recorder itself.`));
    if (bad_lines) root.append(el("p", { class: "tile bad" }, `${plural(bad_lines, "line")} passed over; line ${first_bad_line} ${why}`));
  }
  root.append(el("div", { class: "tiles" },
    tile("messages", count.format(summary.records)),
    tile("time", span(summary.span_s)),
    tile(`${summary.devices.length === 1 ? "device" : "devices"}${summary.gateways.length > 1 ? `, ${summary.gateways.length} gateways` : ""}`, count.format(summary.devices.length)),
    tile(`of ${plural(asked, "request")} answered`, asked ? `${trimmed(Math.floor(answered / asked * 1e4) / 100, 4)} %` : "–"),
    tile("refused", count.format(refused), refused > 0),
    tile("without an answer", count.format(summary.unanswered_count), summary.unanswered_count > 0),
    tile(slowest ? `99 % of ${slowest.kind}s answered within` : "99 % answered within", slowest ? ms(slowest.p99_ms) : "–")));
  root.append(el("div", { class: "search" }, input, found, whole));

  if (data.timeline.t.length) {
    root.append(section("Traffic", "Drag over a chart to see a part of the time in all of them; a double click shows the whole. A click in a legend hides its line.",
      el("div", { class: "card" }, traffic())));
  }
  const kinds = table([
    { title: "Kind", text: row => row.kind },
    { title: "Direction", text: row => row.dir ?? "" },
    { title: "Messages", number: true, text: row => row.records },
    { title: "Payload", number: true, key: row => row.payload_bytes, text: row => size(row.payload_bytes) },
    { title: "Malformed", number: true, text: row => row.malformed, bad: row => row.malformed > 0 },
  ], summary.kinds);
  root.append(kinds.node);

  if (summary.round_trips.length) {
    const trips = table([
      { title: "Request", whole: true, text: row => row.kind },
      { title: "Sent", number: true, text: row => row.requests },
      { title: "Answered", number: true, text: row => row.answered },
      { title: "Open", number: true, text: row => row.unanswered, bad: row => row.unanswered > 0 },
      { title: "Median", number: true, key: row => row.p50_ms, text: row => ms(row.p50_ms) },
      { title: "90 %", number: true, key: row => row.p90_ms, text: row => ms(row.p90_ms) },
      { title: "99 %", number: true, key: row => row.p99_ms, text: row => ms(row.p99_ms) },
      { title: "Longest", number: true, key: row => row.max_ms, text: row => ms(row.max_ms) },
    ], summary.round_trips);
    root.append(section("Round trips", "From a request to its answer, at the time of the request; shortest, mean and longest in each stretch.",
      data.round_trips.length ? el("div", { class: "card" }, roundTrips()) : null, trips.node));
  }

  const CHIPS = 60;
  const who = code => {
    const devices = code.devices.filter(device => device.cid && match(device.cid, device.gateway_id));
    const box = el("div", { class: "chips" });
    const fill = limit => {
      box.replaceChildren(...devices.slice(0, limit).map(device => el("button", { title: device.gateway_id, onclick: () => only(device.cid) }, device.count > 1 ? `${device.cid} ×${device.count}` : device.cid)));
      if (devices.length > limit) box.append(el("button", { onclick: () => fill(limit * 10) }, `${count.format(devices.length - limit)} more…`));
    };
    fill(CHIPS);
    return box;
  };
  if (refusals.length) {
    const list = table([
      { title: "Answer", whole: true, text: row => row.kind },
      { title: "Code", number: true, key: row => row.code, text: row => String(row.code) },
      { title: "Times", number: true, text: row => row.count },
      { title: "Meaning", key: row => row.name ?? "", node: row => el("div", {}, row.name ?? "not on the vendor's page", el("div", { class: "faint" }, row.hint ?? "")) },
      { title: "Devices", key: row => row.devices.length, node: who },
    ], refusals, { matches: row => !terms.length || row.devices.some(device => match(device.cid, device.gateway_id)), sort: { n: 2, down: true } });
    filtered.push(list.fill);
    root.append(section("Refused", null, list.node));
  }
  if (summary.unanswered_count) {
    const list = table([
      { title: "Sent (UTC)", whole: true, text: row => moment(row.tst) },
      { title: "Request", whole: true, text: row => row.kind },
      { title: "Gateway", text: row => row.gateway_id },
      { title: "Device", text: row => row.cid },
      { title: "request_id", text: row => row.request_id },
    ], summary.unanswered, { matches: row => match(row.cid, row.gateway_id) });
    filtered.push(list.fill);
    const named = summary.unanswered.length; // The rest is only counted.
    root.append(section("Without an answer", named < summary.unanswered_count ? `The first ${named} of ${count.format(summary.unanswered_count)}.` : null, list.node));
  }

  if (summary.devices.length) {
    const list = table([
      { title: "Device", text: row => row.cid, node: row => el("div", { class: "chips" }, el("button", { onclick: () => only(row.cid) }, row.cid)) },
      { title: "Gateway", text: row => row.gateway_id },
      { title: "Online", text: row => (row.online === undefined ? "" : row.online ? "yes" : "no") },
      { title: "Syncs", number: true, text: row => row.syncs },
      { title: "Reports", number: true, text: row => row.reports },
      { title: "Commands", number: true, text: row => row.commands },
      { title: "Status", number: true, text: row => row.statuses },
      { title: "Refused", number: true, text: row => row.refused, bad: row => row.refused > 0 },
      { title: "Open", number: true, text: row => row.unanswered, bad: row => row.unanswered > 0 },
      { title: "Last seen (UTC)", whole: true, text: row => moment(row.last) },
    ], summary.devices, { matches: row => match(row.cid, row.gateway_id), sort: refused ? { n: 7, down: true } : null });
    filtered.push(list.fill);
    root.append(section("Devices", null, list.node));
  }

  if (data.series.length) {
    const STEP = 12;
    const grid = el("div", { class: "grid" });
    const more = el("p");
    const note = el("p", { class: "faint" });
    let drawn = [];
    let limit = STEP;
    const card = series => {
      const title = series.code ? `${series.cid} · ${series.name ?? series.code}` : `${series.cid} · DP ${series.id}`;
      const facts = [series.code ? `${series.code}, DP ${series.id}` : "not in the model", series.gateway_id, plural(series.count, "value")];
      if (series.misfits) facts.push(`${count.format(series.misfits)} not allowed by the model`);
      const plot = series.t.length ? values(series) : el("p", {}, "last: ", el("code", {}, series.last));
      if (plot.chart) drawn.push(plot.chart);
      return el("div", { class: "card" }, el("h3", {}, title), el("div", { class: "faint" }, facts.filter(Boolean).join(" · ")), plot);
    };
    const fill = () => {
      drawn.forEach(chart => chart.gone());
      drawn = [];
      const list = data.series.filter(s => match(s.cid, s.gateway_id, s.code ?? "", s.name ?? "", `dp ${s.id}`));
      grid.replaceChildren(...list.slice(0, limit).map(card));
      note.textContent = list.length ? `${plural(list.length, "chart")}${terms.length ? ` for “${input.value.trim()}”` : ""}.` : "No chart matches the filter.";
      if (data.series_left_out) note.append(` There was no room for more data points: ${plural(data.series_left_out, "value")} are not drawn.`);
      found.textContent = terms.length ? plural(list.length, "chart") : "";
      more.replaceChildren();
      if (list.length > limit) more.append(el("button", { onclick: () => { limit += 4 * STEP; fill(); } }, `Show more of ${count.format(list.length)}`));
    };
    filtered.push(() => { limit = STEP; fill(); });
    root.append(section("Values", null, note, grid, more));
    fill();
  }

  if (summary.gaps.length) {
    root.append(section("Longest silence", null, table([
      { title: "For", key: row => row.seconds, text: row => span(row.seconds) },
      { title: "From (UTC)", text: row => moment(row.from) },
      { title: "To (UTC)", text: row => moment(row.to) },
    ], summary.gaps).node));
  }
  const { duplicates, connections } = summary;
  const notes = [
    [plural(duplicates.dup_flag, "message"), "with the DUP flag"],
    [plural(duplicates.requests, "request"), "sent again with the same request_id"],
    [plural(duplicates.answers, "answer"), "sent again"],
    [plural(connections.connects, "connect"), `and ${plural(connections.disconnects, "disconnect")}, as far as they were recorded`],
    ...Object.entries(connections.refused).map(([code, times]) => [plural(times, "connect"), `refused with CONNACK ${code}`]),
  ];
  root.append(section("Repetitions and connections", null, el("div", { class: "card" }, ...notes.map(([what, how]) => el("p", {}, `${what} ${how}`)))));
  root.append(el("p", { class: "faint" }, "Made by tuyagw inspect. Charts by uPlot, © Leon Sorokin, MIT licence."));
})();
