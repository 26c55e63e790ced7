"use strict";
// One run on one axis of time: output, requests, devices, and where those were held back.
const inTime = (() => {
  const { axis, colour, css, dots, figure, make, number, plot, shades } = drawing;
  const SIDE = 56; // room for one axis, beside its label
  const LABEL = 18;
  const MOST_AXES = 2; // right of a chart

  // What all charts of a run share: as long as what lasts longest, and as wide inside.
  function frame(run) {
    const line = run.curves?.timeline;
    const some = run.curves?.sample;
    const sampled = (run.telemetry?.devices || []).flatMap((device) => device.series.at_s);
    const ends = [line ? line.bin_s * (line.output_tokens.length - 1) : 0, ...(some?.ended_s || []), ...sampled];
    const range = [Math.min(0, ...sampled), Math.max(...ends) || 1];
    return (axesRight, more) => ({
      padding: [8, 8 + (SIDE + LABEL) * (MOST_AXES - axesRight), 0, 0],
      cursor: { sync: { key: "time" } },
      ...more,
      scales: { x: { time: false, range }, ...more.scales },
      plugins: [shades(heldBack(run)), ...(more.plugins || [])],
    });
  }

  const seconds = () => axis("seconds from the first request");

  function heldBack(run) {
    return (run.telemetry?.devices || []).flatMap(({ series }) =>
      [[series.power_capped, "--inconclusive-soft"], [series.slowed, "--fail-soft"]].flatMap(([column, tone]) =>
        (column || []).map((share, at) => ({ share, from: series.at_s[at - 1] ?? series.at_s[at], to: series.at_s[at], fill: css(tone) }))
          .filter(({ share }) => share > 0)));
  }

  function output(into, run, framed) {
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
    const fromZero = { range: (_, low, high) => [0, high * 1.1 || 1] };
    plot(figure(into, "Output and requests in flight over time", "timeline of one run"), framed(1, {
      scales: { y: fromZero, n: fromZero },
      axes: [seconds(), axis("tok/s", { size: SIDE }), axis("requests", { scale: "n", side: 1, size: SIDE, grid: { show: false } })],
      series,
    }), data);
  }

  function requests(into, run, framed) {
    const some = run.curves?.sample;
    if (!some?.written_s.length) return;
    const rows = some.written_s.length;
    const draw = (chart) => {
      const { ctx } = chart;
      const [place, row] = [(x) => chart.valToPos(x, "x", true), (y) => chart.valToPos(y, "y", true)];
      const bar = (from, to, at, alpha) => {
        ctx.globalAlpha = alpha;
        ctx.fillRect(place(from), row(at), Math.max(1, place(to) - place(from)), Math.max(1, (row(at + 1) - row(at)) * 0.8));
      };
      ctx.save();
      some.written_s.forEach((from, at) => {
        const [first, to] = [some.first_s[at] ?? some.ended_s[at], some.ended_s[at]];
        ctx.fillStyle = some.ok[at] ? colour(run.side) : css("--fail");
        bar(from, first, at, 0.4);
        bar(first, to, at, 1);
      });
      ctx.restore();
    };
    const of = rows < run.curves.requests ? `${rows} of ${run.curves.requests} requests` : `${rows} requests`;
    plot(figure(into, `${of}: waiting for the first token (light), receiving (full), failed (red)`, of), framed(0, {
      scales: { y: { range: [rows, 0] } },
      axes: [seconds(), axis("request", { size: SIDE, grid: { show: false } })],
      series: [{ label: "s", value: (_, v) => number(v) }, { label: "", points: { show: false } }],
      legend: { show: false },
      plugins: [{ hooks: { draw: [draw] } }],
    }), [[0, Math.max(...some.ended_s) || 1], [null, null]]);
  }

  function device(into, run, found, framed) {
    const at = found.series.at_s;
    const columns = [["power_w", "W", "--fail"], ["clock_mhz", "MHz", "--candidate"], ["temperature_c", "°C", "--inconclusive"]]
      .filter(([name]) => found.series[name]?.some((value) => value != null));
    if (at.length < 2 || !columns.length) return;
    const held = Object.entries(found.slowed || {}).map(([why, share]) => `${why} ${number(100 * share, 2)} %`);
    if (found.power_capped_share) held.push(`at its power limit ${number(100 * found.power_capped_share, 2)} %`);
    plot(figure(into, `${found.product} ${found.index}${held.length ? `: ${held.join(", ")} of the time (shaded)` : ""}`, "power, clock and temperature"), framed(columns.length - 1, {
      axes: [seconds(), ...columns.map(([name, label], i) => axis(label, { scale: name, side: i ? 1 : 3, grid: { show: !i }, size: SIDE }))],
      series: [{ label: "s", value: (_, v) => number(v) }, ...columns.map(([name, label, tone]) => ({
        label, scale: name, stroke: css(tone), width: 1.5, points: { show: false }, value: (_, v) => number(v),
      }))],
    }), [at, ...columns.map(([name]) => found.series[name])]);
  }

  return (into, run) => {
    const stacked = make("div", { class: "stacked" });
    into.append(stacked);
    const framed = frame(run);
    output(stacked, run, framed);
    requests(stacked, run, framed);
    for (const found of run.telemetry?.devices || []) device(stacked, run, found, framed);
  };
})();
