// The charts: uPlot for the large ones, a polyline for the small.

import { element } from "./text.js";

const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A chart of the last five minutes. */
export class Chart {
  constructor(host, legend, series) {
    Object.assign(this, { host, legend, series });
    this.make();
    new ResizeObserver(() => this.plot.setSize(this.size())).observe(host);
  }

  size() {
    return { width: Math.max(120, this.host.clientWidth), height: 172 };
  }

  /** Anew, with the colours of the theme. */
  make() {
    this.plot?.destroy();
    this.legend.replaceChildren(...this.series.map(({ label, color }) =>
      element("li", {}, element("span", { class: "swatch", "data-color": color.slice(2) }), label)));
    const axis = {
      stroke: token("--text-soft"),
      font: `11px ${token("--font")}`,
      grid: { stroke: token("--line-soft"), width: 1 },
      ticks: { show: false },
    };
    const time = { hour: "2-digit", minute: "2-digit", hour12: false };
    const clock = new Intl.DateTimeFormat("en-GB", time);
    this.plot = new uPlot({
      ...this.size(),
      padding: [8, 14, 0, 0],
      cursor: { drag: { x: false, y: false }, points: { show: false }, y: false },
      legend: { show: false },
      scales: { x: { time: true }, y: { range: (_, __, most) => [0, Math.max(1, most * 1.1)] } },
      axes: [
        { ...axis, grid: { show: false }, size: 26, space: 60, incrs: [60, 120, 300], values: (_, at) => at.map((second) => clock.format(second * 1000)) },
        { ...axis, size: 44, space: 36, values: (_, at) => at.map((number) => short(number)) },
      ],
      series: [{}, ...this.series.map(({ label, color }) => ({
        label, stroke: token(color), fill: `${token(color)}1c`, width: 1.5, points: { show: false },
      }))],
    }, this.data ?? [[], ...this.series.map(() => [])], this.host);
  }

  /** `values`: a list a series, beside the times. */
  show(times, values, series = this.series) {
    this.data = [times, ...values];
    const same = series.length === this.series.length && series.every(({ label }, at) => label === this.series[at].label);
    this.series = series;
    if (same) this.plot.setData(this.data);
    else this.make();
  }
}

function short(number) {
  if (number >= 1e6) return `${number / 1e6}M`;
  return number >= 1e3 ? `${number / 1e3}k` : String(number);
}

/** Seconds. */
export const CHARTED = 300;

const SVG = "http://www.w3.org/2000/svg";

export function spark() {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 120 24");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "spark");
  svg.setAttribute("aria-hidden", "true");
  for (const name of ["area", "line"]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    svg.append(path);
  }
  return svg;
}

export function drawSpark(svg, values) {
  const most = Math.max(1, ...values);
  const step = 120 / (values.length - 1);
  const points = values.map((value, at) => `${(at * step).toFixed(1)} ${(22 - (value / most) * 20).toFixed(1)}`);
  const line = `M${points.join("L")}`;
  svg.children[0].setAttribute("d", `${line}L120 23L0 23Z`);
  svg.children[1].setAttribute("d", line);
}
