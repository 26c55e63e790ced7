"use strict";
// What all charts of the page are made with.
const drawing = (() => {
  const HEIGHT = 230;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

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

  // What lies right of a chart is told at its edge, below what rises to the right.
  function beyond({ ctx, bbox }, at, stroke) {
    ctx.fillStyle = stroke;
    ctx.font = `${12 * devicePixelRatio}px system-ui`;
    ctx.textAlign = "right";
    ctx.textBaseline = "bottom";
    ctx.fillText(`limit ${number(at)} →`, bbox.left + bbox.width, bbox.top + bbox.height - 6 * devicePixelRatio);
  }

  // Lines across a chart, at values of one of its scales.
  const marks = (lines) => ({
    hooks: {
      draw: [(chart) => {
        const { ctx, bbox } = chart;
        ctx.save();
        for (const { at, scale, stroke, dash } of lines) {
          const place = Math.round(chart.valToPos(at, scale, true));
          if (scale === "x" && place > bbox.left + bbox.width) {
            beyond(chart, at, stroke);
            continue;
          }
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

  // Stretches of a chart's x axis, coloured behind everything else.
  const shades = (stretches) => ({
    hooks: {
      drawClear: [(chart) => {
        const { ctx, bbox } = chart;
        ctx.save();
        for (const { from, to, fill } of stretches) {
          const [left, right] = [from, to].map((x) => Math.min(bbox.left + bbox.width, Math.max(bbox.left, chart.valToPos(x, "x", true))));
          ctx.fillStyle = fill;
          ctx.fillRect(left, bbox.top, Math.max(0, right - left), bbox.height);
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

  const dots = (label, stroke, filled) => ({
    label, stroke, width: 0, paths: () => null, value: (_, v) => number(v),
    ...(filled ? { fill: stroke } : {}), // of its mark in the legend: there is no area to fill
    points: { show: true, size: 8, fill: filled ? stroke : css("--paper"), stroke },
  });

  // The range of the data and of what is drawn across it, with some air.
  const padded = (also) => (_, low, high) => {
    const all = [low, high, ...also].filter((each) => each != null);
    const [least, most] = [Math.min(...all), Math.max(...all)];
    const air = (most - least) * 0.1 || Math.abs(most) * 0.1 || 1;
    return [least - air, most + air];
  };

  // --- names, as the tables of the page say them ----------------------------------------------

  const NAMES = JSON.parse(document.getElementById("names").textContent);
  const spoken = (metric) => NAMES[metric]?.[0] || metric.replaceAll("_", " ");
  const unit = (metric) => NAMES[metric]?.[1] || "";
  const better = (metric) => NAMES[metric]?.[2];

  return { HEIGHT, axis, better, colour, css, dots, figure, make, marks, number, padded, plot, shades, spoken, unit, valueOf };
})();
