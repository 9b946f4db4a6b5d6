// The chart of how busy a name was. uPlot comes as a script of its own, on this page only.

import { Component, createRef, html } from "./html.js";

/** Bars: the share of each day, in the browser's zone, for which the name was held. */
export class Chart extends Component {
  box = createRef();
  dark = matchMedia("(prefers-color-scheme: dark)");

  componentDidMount() {
    this.resized = new ResizeObserver(() => this.draw());
    this.resized.observe(this.box.current);
    this.dark.addEventListener("change", this.draw);
  }

  componentWillUnmount() {
    this.resized.disconnect();
    this.dark.removeEventListener("change", this.draw);
    this.plot?.destroy();
  }

  componentDidUpdate(before) {
    if (JSON.stringify(before.days) !== JSON.stringify(this.props.days)) this.draw();
  }

  draw = () => {
    this.plot?.destroy();
    const box = this.box.current;
    const { days } = this.props;
    const style = getComputedStyle(box);
    const color = (name) => style.getPropertyValue(name).trim();
    const font = `12px ${style.fontFamily}`;
    const axis = { stroke: color("--muted"), font, grid: { stroke: color("--line"), width: 1 } };
    this.plot = new uPlot({
      width: box.clientWidth, height: 180,
      tzDate: (s) => uPlot.tzDate(new Date(s * 1000), "Etc/UTC"),
      legend: { show: false }, cursor: { show: false },
      scales: {
        x: { range: (_, from, to) => [from - 43_200, to + 43_200] },
        y: { range: [0, 100] },
      },
      axes: [
        { ...axis, grid: { show: false }, values: (u, at) => at.map((s) => dayName(s * 1000)),
          space: 60, incrs: [86_400, 2 * 86_400, 7 * 86_400] },
        { ...axis, values: (u, at) => at.map((v) => v + "%"), size: 50, incrs: [25, 50] },
      ],
      series: [{}, {
        fill: color("--accent"), stroke: color("--accent"), points: { show: false },
        paths: uPlot.paths.bars({ size: [0.7, 40] }),
      }],
    }, [days.map((d) => Date.parse(d.day) / 1000), days.map(percent)], box);
  };

  render({ days }) {
    const busy = days.filter((d) => d.held > 0).length;
    const whole = Math.round(days.reduce((sum, d) => sum + percent(d), 0) / (days.length || 1));
    return html`<div class="chart" ref=${this.box} role="img"
        aria-label=${`Held for ${whole} % of the last ${days.length} days, on ${busy} of them`} />
      <details><summary>As a table</summary>
        <table class="plain"><thead><tr><th scope="col">Day</th><th scope="col">Held</th></tr>
        </thead><tbody>${[...days].reverse().map((d) => html`<tr key=${d.day}>
          <th scope="row">${d.day}</th><td>${percent(d).toFixed(0)} %</td></tr>`)}</tbody></table>
      </details>`;
  }
}

const percent = (day) => Math.min(100, day.held / 864);

const dayFormat = new Intl.DateTimeFormat(undefined,
  { month: "short", day: "numeric", timeZone: "UTC" });

const dayName = (ms) => dayFormat.format(ms);
