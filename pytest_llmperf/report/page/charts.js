"use strict";
// The charts of a report: each takes the report, or a part of it, and the element to draw into.
const charts = (() => {
  const { HEIGHT, axis, better, colour, css, dots, figure, make, marks, number, padded, plot, spoken, unit, valueOf } = drawing;
  const MOST_CURVES = 8; // of one side, in a distribution
  const FAR = 4; // times what the requests spread over: a ceiling further away would flatten them

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
    const series = [{ label: "run", value: (_, v) => number(v) }];
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
      const worse = better(metric) === "higher" ? -1 : 1;
      lines.push({ at: 100 * worse * wanted.loss_to_catch, scale: "y", stroke: css("--fail") });
    }
    plot(figure(into, `${spoken(metric)}: candidate against reference, pair by pair`, `${whole.length} pairs`), {
      scales: { x: { time: false, range: [0, whole.length + 1] }, y: { range: padded(lines.map((l) => l.at)) } },
      axes: [axis("pair of launches"), axis("% difference", { size: 60 })],
      series: [{ label: "pair", value: (_, v) => number(v) }, { ...dots("difference", css("--candidate"), true), value: (_, v) => `${number(v, 3)} %` }],
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
    const last = Math.max(...tables.map(([values]) => values[values.length - 1]));
    const near = ceilings.filter(({ at }) => at - last <= FAR * (last - least || last));
    const most = Math.max(last, ...near.map(({ at }) => at));
    const wide = least > 0 && most / least > 30;
    plot(figure(into, `${base.toUpperCase()}: share of requests within`, `distribution of ${base} in ${drawn.length} runs`), {
      scales: { x: { time: false, distr: wide ? 3 : 1, range: wide ? [least * 0.9, most * 1.1] : [least - (most - least) * 0.04, most + (most - least) * 0.06 || most + 1] }, y: { range: [0, 102] } },
      axes: [axis("ms"), axis("% of requests")],
      series: [{ label: "ms", value: (_, v) => number(v) }, ...drawn.map(([side, run], at) => ({
        label: `${side} ${(run.started_at || "").slice(11, 19) || run.index + 1}`, stroke: colour(side), width: 1.5,
        alpha: at % MOST_CURVES ? 0.75 : 1, spanGaps: true, paths: uPlot.paths.stepped({ align: 1 }), points: { show: false }, value: (_, v) => (v == null ? "–" : `${number(v, 3)} %`),
      }))],
      legend: { show: drawn.length <= 4 }, plugins: [marks(ceilings)],
    }, joined);
  }

  function measurement(report, into) {
    const ours = report.measurements[Number(into.dataset.at)];
    const theirs = ours.reference && report.measurements.find((each) => each.id === ours.reference);
    const runs = [...ours.runs, ...(theirs?.runs || [])].sort((a, b) => (a.started_at < b.started_at ? -1 : 1));
    const gates = report.gates.filter((gate) => gate.measurement === ours.id);
    const metric = headline(gates);
    into.replaceChildren();
    if (theirs) {
      const key = make("p", { class: "keys quiet" });
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
    select.value = into.dataset.run || 0;
    const draw = () => {
      into.dataset.run = select.value;
      while (into.childElementCount > fixed) into.lastElementChild.remove();
      const run = shaped[Number(select.value)];
      inTime(into, run);
    };
    select.addEventListener("change", draw);
    draw();
  }

  function frontier(report, into) {
    const sweep = report.sweeps[Number(into.dataset.at)];
    const points = sweep.points.filter((point) => point.throughput != null && point.per_user != null)
      .sort((a, b) => a.per_user - b.per_user);
    if (!points.length) return;
    const canvas = make("div", { role: "img", "aria-label": `${points.length} loads` });
    [...into.children].slice(1).forEach((old) => old.remove());
    into.append(canvas);
    // A line where more load costs each user speed; elsewhere it would join what is not in order.
    const traded = points.every((point, at) => !at || point.throughput <= points[at - 1].throughput);
    const best = points.map((point) => (point.load === sweep.best ? point.throughput : null));
    plot(canvas, {
      scales: { x: { time: false, range: padded([]) }, y: { range: padded([0]) } },
      axes: [axis("tok/s per user"), axis("tok/s", { size: 60 })],
      series: [
        { label: "per user", value: (_, v) => number(v) },
        { label: "throughput", stroke: css("--candidate"), width: traded ? 1.5 : 0, ...(traded ? {} : { paths: () => null }), points: { show: true, size: 7, width: 1.5 }, value: (_, v) => number(v) },
        dots("the highest within the objectives", css("--pass"), true),
      ],
    }, [points.map((point) => point.per_user), points.map((point) => point.throughput), best]);
  }

  // Each session's mean as a dot with its launches as a bar, the levels between steps as lines.
  function history(report, into) {
    const gate = report.gates[Number(into.dataset.gate)];
    const { points, steps, level } = gate.history;
    const sharing = report.gates.filter((each) => each.test === gate.test && each.metric === gate.metric);
    const limits = [...new Set(sharing.map((each) => each.limit).filter((limit) => limit != null))];
    const fresh = css(sharing.some((each) => each.verdict === "fail") ? "--fail" : "--candidate");
    const of = (test) => points.map((point) => (test(point) ? point.value : null));
    const starts = [0, ...steps.map((step) => step.at)];
    const levels = steps.length ? [steps[0].before, ...steps.map((step) => step.after)] : [];
    const ends = [...starts.slice(1), points.filter((point) => !point.fresh).length];
    const flat = levels.map((height, at) => ({ from: starts[at] - 0.5, to: ends[at] - 0.5, height }));
    const across = [
      { at: level, scale: "y", stroke: css("--pass"), dash: [6, 4] },
      ...limits.map((at) => ({ at, scale: "y", stroke: css("--fail") })),
      ...steps.map((step) => ({ at: step.at - 0.5, scale: "x", stroke: css("--inconclusive"), dash: [3, 3] })),
    ].filter((line) => line.at != null);
    const named = (point) => [point.created.slice(0, 10), point.version, point.commit?.slice(0, 7)].filter(Boolean).join(" ");
    const drawn = [["dashed: the accepted level", level != null], [limits.length > 1 ? "red: the limits" : "red: the limit", limits.length], ["solid: levels between steps", steps.length]];
    const lines = drawn.filter(([, there]) => there).map(([word]) => word).join(", ");
    into.replaceChildren();
    plot(figure(into, `${spoken(gate.metric)}, session by session${lines ? ` (${lines})` : ""}`, `${points.length} sessions, ${steps.length} changes of level`), {
      scales: { x: { time: false, range: [-1, points.length] }, y: { range: padded([...across.filter((line) => line.scale === "y").map((line) => line.at), ...points.flatMap((point) => [point.low, point.high])]) } },
      axes: [
        axis("", { labelSize: 0, size: 30, space: 90, incrs: [1, 2, 5, 10, 20], values: (_, at) => at.map((each) => points[each]?.created.slice(0, 10) || "") }),
        axis(unit(gate.metric), { size: 60 }),
      ],
      series: [
        { label: "session", value: (_, v) => (v == null ? "–" : named(points[v])) },
        dots("accepted", css("--candidate"), true),
        dots("not accepted", css("--candidate"), false),
        { ...dots("this session", fresh, true), points: { ...dots("", fresh, true).points, size: 12 } },
      ],
      plugins: [marks(across), launchesAndLevels(points, flat)],
    }, [points.map((_, at) => at), of((p) => p.accepted), of((p) => !p.accepted && !p.fresh), of((p) => p.fresh)]);
  }

  // From the least to the greatest launch of each session; the levels that steps divide.
  const launchesAndLevels = (points, levels) => ({
    hooks: {
      drawAxes: [(chart) => {
        const { ctx } = chart;
        ctx.save();
        ctx.strokeStyle = css("--quiet");
        ctx.lineWidth = 1.5;
        const line = (fromX, fromY, toX, toY) => {
          ctx.beginPath();
          ctx.moveTo(chart.valToPos(fromX, "x", true), chart.valToPos(fromY, "y", true));
          ctx.lineTo(chart.valToPos(toX, "x", true), chart.valToPos(toY, "y", true));
          ctx.stroke();
        };
        points.forEach((point, at) => line(at, point.low, at, point.high));
        ctx.strokeStyle = css("--inconclusive");
        ctx.lineWidth = 2.5;
        for (const { from, to, height } of levels) line(from, height, to, height);
        ctx.restore();
      }],
    },
  });

  return { frontier, history, measurement };
})();
