"use strict";
// Draws the charts of a report from the report itself, which the page carries as gzip in base64.
(() => {
  const HEIGHT = 230;
  const MOST_CURVES = 8; // of one side, in a distribution
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const $ = (id) => document.getElementById(id);

  async function unpacked() {
    const packed = atob($("report").textContent.trim());
    const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Response(stream).text();
  }

  // --- small things -------------------------------------------------------------------------

  const number = (value, digits = 4) =>
    value == null ? "–" : Number(value.toPrecision(digits)).toLocaleString("en");
  const valueOf = (metric) => (metric !== null && typeof metric === "object" ? null : metric ?? null);
  const colour = (side) => css(side === "reference" ? "--reference" : "--candidate");
  const make = (tag, attributes = {}, text = "") => {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text) made.textContent = text;
    return made;
  };

  function figure(into, caption, description) {
    const made = make("figure");
    made.append(make("figcaption", {}, caption));
    const canvas = make("div", { role: "img", "aria-label": description || caption });
    made.append(canvas);
    into.append(made);
    return canvas;
  }

  const axis = (label, more = {}) => ({
    label, labelSize: 18, size: 46, font: "12px system-ui", labelFont: "12px system-ui",
    stroke: css("--quiet"), grid: { stroke: css("--rule"), width: 1 }, ticks: { stroke: css("--rule") },
    values: (_, marks) => marks.map((mark) => (mark == null ? "" : number(mark))), ...more,
  });

  // Lines across a chart, at values of one of its scales.
  const marks = (lines) => ({
    hooks: {
      draw: [(chart) => {
        const { ctx, bbox } = chart;
        ctx.save();
        for (const { at, scale, stroke, dash } of lines) {
          const place = Math.round(chart.valToPos(at, scale, true));
          ctx.strokeStyle = stroke;
          ctx.lineWidth = 2;
          ctx.setLineDash(dash || []);
          ctx.beginPath();
          if (scale === "x") {
            if (place < bbox.left || place > bbox.left + bbox.width) continue;
            ctx.moveTo(place, bbox.top);
            ctx.lineTo(place, bbox.top + bbox.height);
          } else {
            if (place < bbox.top || place > bbox.top + bbox.height) continue;
            ctx.moveTo(bbox.left, place);
            ctx.lineTo(bbox.left + bbox.width, place);
          }
          ctx.stroke();
        }
        ctx.restore();
      }],
    },
  });

  function plot(into, options, data) {
    const width = () => Math.max(260, into.clientWidth || 440);
    const chart = new uPlot(
      { width: width(), height: HEIGHT, legend: { live: true }, cursor: { points: { size: 6 } }, ...options },
      data, into,
    );
    new ResizeObserver(() => chart.setSize({ width: width(), height: HEIGHT })).observe(into);
    return chart;
  }

  // --- the charts of a measurement ------------------------------------------------------------

  const headline = (gates) => {
    const gated = gates.find((gate) => gate.verdict === "fail") || gates[0];
    return gated ? gated.metric : "output_throughput";
  };

  function runsChart(into, runs, metric, gates) {
    const shown = runs.filter((run) => valueOf(run.metrics[metric]) !== null);
    if (!shown.length) return;
    const value = (run) => valueOf(run.metrics[metric]);
    const of = (test) => shown.map((run) => (test(run) ? value(run) : null));
    const sides = [...new Set(shown.map((run) => run.side))];
    const data = [shown.map((_, at) => at + 1)];
    const series = [{ label: "run" }];
    for (const side of sides) {
      data.push(of((run) => run.side === side && run.valid));
      series.push(dots(side, colour(side), true));
    }
    if (shown.some((run) => !run.valid)) {
      data.push(of((run) => !run.valid));
      series.push(dots("left out", css("--quiet"), false));
    }
    const limits = gates.filter((gate) => gate.metric === metric && gate.limit != null)
      .map((gate) => ({ at: gate.limit, scale: "y", stroke: css("--fail") }));
    plot(figure(into, `${spoken(metric)}, run by run`, `${shown.length} runs`), {
      scales: { x: { time: false, range: [0, shown.length + 1] }, y: { range: padded(limits.map((l) => l.at)) } },
      axes: [axis("in the order of time"), axis(unit(metric), { size: 60 })],
      series, plugins: [marks(limits)],
    }, data);
  }

  const dots = (label, stroke, filled) => ({
    label, stroke, width: 0, paths: () => null, value: (_, v) => number(v),
    points: { show: true, size: 8, fill: filled ? stroke : css("--paper"), stroke },
  });

  // The range of the data and of what is drawn across it, with some air.
  const padded = (also) => (_, low, high) => {
    const all = [low, high, ...also].filter((each) => each != null);
    const [least, most] = [Math.min(...all), Math.max(...all)];
    const air = (most - least) * 0.1 || Math.abs(most) * 0.1 || 1;
    return [least - air, most + air];
  };

  function pairsChart(into, runs, metric, gates) {
    const pairs = new Map();
    for (const run of runs) {
      if (run.pair == null || !run.valid || !(valueOf(run.metrics[metric]) > 0)) continue;
      const pair = pairs.get(run.pair) || { candidate: [], reference: [] };
      pair[run.side].push(valueOf(run.metrics[metric]));
      pairs.set(run.pair, pair);
    }
    const whole = [...pairs].filter(([, p]) => p.candidate.length && p.reference.length)
      .sort(([a], [b]) => a - b);
    if (!whole.length) return;
    const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
    const change = whole.map(([, p]) => 100 * (mean(p.candidate) / mean(p.reference) - 1));
    const lines = [{ at: 0, scale: "y", stroke: css("--quiet"), dash: [4, 4] }];
    const wanted = gates.find((gate) => gate.metric === metric && gate.loss_to_catch != null);
    if (wanted) {
      const worse = NAMES[metric][2] === "higher" ? -1 : 1;
      lines.push({ at: 100 * worse * wanted.loss_to_catch, scale: "y", stroke: css("--fail") });
    }
    plot(figure(into, `${spoken(metric)}: candidate against reference, pair by pair`, `${whole.length} pairs`), {
      scales: { x: { time: false, range: [0, whole.length + 1] }, y: { range: padded(lines.map((l) => l.at)) } },
      axes: [axis("pair of launches"), axis("% difference", { size: 60 })],
      series: [{ label: "pair" }, { ...dots("difference", css("--candidate"), true), value: (_, v) => `${number(v, 3)} %` }],
      plugins: [marks(lines)],
    }, [whole.map(([at]) => at + 1), change]);
  }

  function distribution(into, runs, base, gates) {
    const sides = { reference: [], candidate: [] };
    for (const run of runs) if (run.curves?.quantiles[base] && run.valid) sides[run.side].push(run);
    const drawn = Object.entries(sides).flatMap(([side, found]) => found.slice(-MOST_CURVES).map((run) => [side, run]));
    if (!drawn.length) return;
    const tables = drawn.map(([, run]) => {
      const values = run.curves.quantiles[base];
      return [values.filter((v) => v != null), values.map((v, at) => (v == null ? null : (100 * at) / (values.length - 1))).filter((v) => v != null)];
    }).filter(([values]) => values.length);
    if (!tables.length) return;
    const joined = uPlot.join(tables.map(([values, share]) => {
      const last = new Map(); // of equal values the highest share counts
      values.forEach((value, at) => last.set(value, share[at]));
      return [[...last.keys()], [...last.values()]];
    }));
    const ceilings = gates.filter((gate) => gate.kind === "ceiling" && gate.limit != null && gate.metric.startsWith(`${base}_`))
      .map((gate) => ({ at: gate.limit, scale: "x", stroke: css("--fail") }));
    const least = Math.min(...tables.map(([values]) => values[0]));
    const most = Math.max(...tables.map(([values]) => values[values.length - 1]), ...ceilings.map((c) => c.at));
    const wide = least > 0 && most / least > 30;
    plot(figure(into, `${base.toUpperCase()}: share of requests within`, `distribution of ${base} in ${drawn.length} runs`), {
      scales: { x: { time: false, distr: wide ? 3 : 1, range: wide ? [least * 0.9, most * 1.1] : [least - (most - least) * 0.04, most + (most - least) * 0.06 || most + 1] }, y: { range: [0, 102] } },
      axes: [axis("ms"), axis("% of requests")],
      series: [{ label: "ms", value: (_, v) => number(v) }, ...drawn.map(([side, run], at) => ({
        label: `${side === "reference" ? "reference" : "candidate"} ${run.index + 1}`, stroke: colour(side), width: 1.5,
        alpha: at % MOST_CURVES ? 0.75 : 1, spanGaps: true, paths: uPlot.paths.stepped({ align: 1 }), points: { show: false }, value: (_, v) => (v == null ? "–" : `${number(v, 3)} %`),
      }))],
      legend: { show: drawn.length <= 4 }, plugins: [marks(ceilings)],
    }, joined);
  }

  function timeline(into, run) {
    const line = run.curves?.timeline;
    if (!line) return;
    const x = line.output_tokens.map((_, at) => at * line.bin_s);
    const data = [x, line.output_tokens.map((tokens) => tokens / line.bin_s), line.in_flight];
    const series = [
      { label: "s", value: (_, v) => number(v) },
      { label: "tok/s", stroke: colour(run.side), width: 1.5, points: { show: false }, value: (_, v) => number(v) },
      { label: "in flight", scale: "n", stroke: css("--quiet"), dash: [4, 3], width: 1, points: { show: false }, value: (_, v) => number(v, 3) },
    ];
    if (line.failed.some((count) => count)) {
      data.push(line.failed.map((count) => count || null));
      series.push({ ...dots("failed", css("--fail"), true), scale: "n" });
    }
    plot(figure(into, "Output and requests in flight over time", "timeline of one run"), {
      scales: { x: { time: false }, y: { range: (_, low, high) => [0, high * 1.1 || 1] }, n: { range: (_, low, high) => [0, high * 1.1 || 1] } },
      axes: [axis("seconds from the first request"), axis("tok/s", { size: 60 }), axis("requests", { scale: "n", side: 1, grid: { show: false } })],
      series, cursor: { sync: { key: "time" } },
    }, data);
  }

  function requests(into, run) {
    const some = run.curves?.sample;
    if (!some?.written_s.length) return;
    const end = Math.max(...some.ended_s) || 1;
    const step = Math.min(8, Math.max(1.5, HEIGHT / some.written_s.length));
    const height = Math.ceil(step * some.written_s.length) + 4;
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 1000 ${height}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("style", `width:100%;height:${Math.min(HEIGHT, height)}px`);
    const bar = (from, to, row, fill, opacity) => {
      const made = document.createElementNS(svg.namespaceURI, "rect");
      made.setAttribute("x", (1000 * from) / end);
      made.setAttribute("width", Math.max(1, (1000 * (to - from)) / end));
      made.setAttribute("y", row * step);
      made.setAttribute("height", Math.max(1, step - 0.6));
      made.setAttribute("fill", fill);
      made.setAttribute("opacity", opacity);
      svg.append(made);
    };
    some.written_s.forEach((from, row) => {
      const [first, to] = [some.first_s[row] ?? some.ended_s[row], some.ended_s[row]];
      const fill = some.ok[row] ? colour(run.side) : css("--fail");
      bar(from, first, row, fill, 0.4);
      bar(first, to, row, fill, 1);
    });
    const drawn = some.written_s.length;
    const of = drawn < run.curves.requests ? `${drawn} of ${run.curves.requests} requests` : `${drawn} requests`;
    figure(into, `${of}: waiting for the first token (light), receiving (full), failed (red)`, of).append(svg);
    into.lastElementChild.append(make("p", { class: "quiet" }, `0 to ${number(end, 3)} s`));
  }

  function telemetry(into, run) {
    for (const device of run.telemetry?.devices || []) {
      const at = device.series.at_s;
      const columns = [["power_w", "W", "--fail"], ["clock_mhz", "MHz", "--candidate"], ["temperature_c", "°C", "--inconclusive"]]
        .filter(([name]) => device.series[name]?.some((value) => value != null));
      if (at.length < 2 || !columns.length) continue;
      const slowed = Object.entries(device.slowed || {}).map(([why, share]) => `${why} ${number(100 * share, 2)} %`).join(", ");
      plot(figure(into, `${device.product} ${device.index}${slowed ? `: slowed by ${slowed}` : ""}`, "power, clock and temperature"), {
        scales: { x: { time: false } },
        axes: [axis("seconds from the first request"), ...columns.map(([name, label], i) => axis(label, { scale: name, side: i ? 1 : 3, grid: { show: !i }, size: 54 }))],
        series: [{ label: "s", value: (_, v) => number(v) }, ...columns.map(([name, label, tone]) => ({
          label, scale: name, stroke: css(tone), width: 1.5, points: { show: false }, value: (_, v) => number(v),
        }))],
        cursor: { sync: { key: "time" } },
      }, [at, ...columns.map(([name]) => device.series[name])]);
    }
  }

  function measurement(report, into) {
    const [ours, theirs] = [into.dataset.id, into.dataset.reference];
    const of = (id) => report.measurements.find((each) => each.id === id)?.runs || [];
    const runs = [...of(ours), ...(theirs ? of(theirs) : [])].sort((a, b) => (a.started_at < b.started_at ? -1 : 1));
    const gates = report.gates.filter((gate) => gate.measurement === ours);
    const metric = headline(gates);
    into.replaceChildren();
    if (theirs) {
      const key = make("p", { class: "picker quiet" });
      for (const side of ["candidate", "reference"]) key.append(make("span", { class: `key ${side}` }, side));
      into.append(key);
    }
    pairsChart(into, runs, metric, gates);
    runsChart(into, runs, metric, gates);
    for (const base of ["ttft", "tpot", "e2e"]) distribution(into, runs, base, gates);
    const shaped = runs.filter((run) => run.curves);
    if (!shaped.length) return;
    const picker = make("p", { class: "picker" });
    const label = make("label", {}, "One run in time: ");
    const select = make("select");
    shaped.forEach((run, at) => select.append(make("option", { value: at },
      `${(run.started_at || "").slice(11, 19)} ${run.side}${run.pair == null ? "" : `, pair ${run.pair + 1}`}, run ${run.index + 1}${run.valid ? "" : ", left out"}`)));
    label.append(select);
    picker.append(label);
    into.append(picker);
    const fixed = into.childElementCount;
    const draw = () => {
      while (into.childElementCount > fixed) into.lastElementChild.remove();
      const run = shaped[Number(select.value)];
      timeline(into, run);
      requests(into, run);
      telemetry(into, run);
    };
    select.addEventListener("change", draw);
    draw();
  }

  function frontier(report, into) {
    const sweep = report.sweeps.find((each) => each.id === into.dataset.id);
    const points = (sweep?.points || []).filter((point) => point.throughput != null && point.per_user != null)
      .sort((a, b) => a.per_user - b.per_user);
    if (!points.length) return;
    const canvas = make("div", { role: "img", "aria-label": `${points.length} loads` });
    [...into.children].slice(1).forEach((old) => old.remove());
    into.append(canvas);
    const best = points.map((point) => (point.load === sweep.best ? point.throughput : null));
    plot(canvas, {
      scales: { x: { time: false, range: padded([]) }, y: { range: padded([0]) } },
      axes: [axis("tok/s per user"), axis("tok/s", { size: 60 })],
      series: [
        { label: "per user", value: (_, v) => number(v) },
        { label: "throughput", stroke: css("--candidate"), width: 1.5, points: { show: true, size: 7 }, value: (_, v) => number(v) },
        dots("within the objectives", css("--pass"), true),
      ],
    }, [points.map((point) => point.per_user), points.map((point) => point.throughput), best]);
  }

  // --- names, as the tables of the page say them ----------------------------------------------

  const NAMES = JSON.parse($("names").textContent);
  const spoken = (metric) => NAMES[metric]?.[0] || metric.replaceAll("_", " ");
  const unit = (metric) => NAMES[metric]?.[1] || "";

  // --- the page -------------------------------------------------------------------------------

  function filters() {
    const [find, show, found] = [$("find"), $("show"), $("found")];
    if (!find) return;
    const rows = [...$("gate-table").tBodies[0].rows];
    const apply = () => {
      const text = find.value.toLowerCase();
      let left = 0;
      for (const row of rows) {
        const fits = (!show.value || row.dataset.verdict === show.value) && row.textContent.toLowerCase().includes(text);
        row.hidden = !fits;
        left += fits;
      }
      found.textContent = left === rows.length ? "" : `${left} of ${rows.length}`;
    };
    find.addEventListener("input", apply);
    show.addEventListener("change", apply);
    if (rows.length > 8) document.querySelector(".tools").hidden = false;
  }

  function opened(hash) {
    const target = hash && document.getElementById(hash.slice(1));
    if (target?.tagName === "DETAILS") target.open = true;
  }

  function drawWhenSeen(report) {
    const draw = (into) => (into.dataset.chart === "frontier" ? frontier : measurement)(report, into);
    const places = document.querySelectorAll(".charts, [data-chart]");
    const seen = new Set();
    const watch = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting || seen.has(entry.target)) continue;
        seen.add(entry.target);
        draw(entry.target);
      }
    }, { rootMargin: "200px" });
    places.forEach((place) => watch.observe(place));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => seen.forEach(draw));
    addEventListener("beforeprint", () => {
      document.querySelectorAll("details.measurement").forEach((each) => (each.open = true));
      places.forEach((place) => { if (!seen.has(place)) { seen.add(place); draw(place); } });
    });
  }

  function download(text) {
    const button = $("download");
    button.hidden = false;
    button.addEventListener("click", () => {
      const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: "application/json" })), download: "report.json" });
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }

  filters();
  opened(location.hash);
  addEventListener("hashchange", () => opened(location.hash));
  unpacked().then((text) => {
    drawWhenSeen(JSON.parse(text));
    download(text);
    document.documentElement.dataset.ready = "yes";
  });
})();
