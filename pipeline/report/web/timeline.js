// Events and tracks over time, and curves below them; clicking seeks, hovering names.
"use strict";
marey.timeline = (() => {
  const { duration, objects, classes, events, counts, curves, gaps } = marey.data;
  const EVENT = "#ff6b91", INK = "#dfe3ee", LINE = "#3a4152", LANE = 9, BAND = 14, TOP = 18, MAX_LANES = 40;
  const COUNTS = 110, CURVE = 60;
  let from = 0, to = duration, lanes = null;

  const plots = [{ id: "timeline", draw: drawTimeline, name: nameAt }, { id: "counts", draw: drawCounts, name: countsAt }];
  const labels = [...new Set(events.map((event) => event.label))];
  const x = (t, width) => (t - from) / (to - from) * width;

  // Each track in the first lane that is free when it begins.
  function arrange() {
    const ends = [];
    return objects.map(([, , t0, t1], k) => ({ k, t0, t1 })).sort((a, b) => a.t0 - b.t0).map((bar) => {
      let lane = ends.findIndex((end) => end <= bar.t0);
      if (lane < 0) lane = ends.length < MAX_LANES ? ends.length : bar.k % MAX_LANES;
      ends[lane] = bar.t1;
      return { ...bar, lane };
    });
  }

  function axis(pen, width, height) {
    const steps = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21600];
    const step = steps.find((step) => (to - from) / step * 60 < width) ?? 86400;
    pen.font = "11px system-ui, sans-serif";
    for (let t = Math.ceil(from / step) * step; t <= to; t += step) {
      pen.fillStyle = LINE;
      pen.fillRect(x(t, width), 0, 1, height);
      pen.fillStyle = INK;
      pen.fillText(marey.clockText(t), x(t, width) + 3, 11);
    }
    pen.fillStyle = "#8b94a855";
    for (const [a, b] of gaps) pen.fillRect(x(a, width), 0, Math.max(2, x(b, width) - x(a, width)), height);
  }

  function playhead(pen, width, height) {
    pen.fillStyle = "#ffffff";
    pen.fillRect(x(marey.clock.now, width) - 0.75, 0, 1.5, height);
  }

  const tracksTop = () => TOP + labels.length * BAND + 4;

  function drawTimeline(pen, width, height) {
    axis(pen, width, height);
    for (const event of events) {
      const left = x(event.t0, width), wide = Math.max(3, x(event.t1, width) - left);
      if (left > width || left + wide < 0) continue;
      pen.fillStyle = EVENT;
      pen.fillRect(left - (wide === 3 ? 1.5 : 0), TOP + labels.indexOf(event.label) * BAND + 1, wide, BAND - 3);
    }
    for (const { k, t0, t1, lane } of lanes) {
      const left = x(t0, width), wide = Math.max(1, x(t1, width) - left);
      if (left > width || left + wide < 0) continue;
      pen.fillStyle = classes[objects[k][1]].colour;
      pen.fillRect(left, tracksTop() + lane * LANE, wide, LANE - 3);
    }
    pen.font = "11px system-ui, sans-serif";
    labels.forEach((label, n) => {
      const w = pen.measureText(label).width + 6;
      pen.fillStyle = "#10131acc";
      pen.fillRect(0, TOP + n * BAND, w, BAND - 1);
      pen.fillStyle = INK;
      pen.fillText(label, 3, TOP + n * BAND + 10);
    });
  }

  function line(pen, values, seconds, width, height, top, colour) {
    pen.beginPath();
    pen.strokeStyle = colour;
    pen.lineWidth = 1.5;
    values.forEach((value, n) => pen.lineTo(x((n + 0.5) * seconds, width), height - 4 - value / top * (height - 22)));
    pen.stroke();
  }

  const highest = Math.max(1, ...counts.values.map((row) => row.reduce((a, b) => Math.max(a, b), 0)));

  function drawCounts(pen, width, height) {
    axis(pen, width, height);
    counts.values.forEach((row, n) => line(pen, row, counts.seconds, width, height, highest, classes[n].colour));
    pen.fillStyle = INK;
    pen.fillText(`objects in the picture, up to ${highest}`, 3, 24);
  }

  function nameAt(t, y) {
    const slack = (to - from) / 300, band = Math.floor((y - TOP) / BAND);
    const event = y < tracksTop() && events.find((event) => labels.indexOf(event.label) === band &&
      t >= event.t0 - slack && t <= event.t1 + slack);
    if (event) return `${marey.overlay.captionText(event)} at ${event.t0.toFixed(1)} s`;
    const lane = Math.floor((y - tracksTop()) / LANE);
    const bar = lanes.find((bar) => bar.lane === lane && t >= bar.t0 - slack && t <= bar.t1 + slack);
    return bar ? `${classes[objects[bar.k][1]].name} ${objects[bar.k][0]}, ${bar.t0.toFixed(1)} to ${bar.t1.toFixed(1)} s` : null;
  }

  function countsAt(t) {
    const n = Math.min(Math.floor(t / counts.seconds), (counts.values[0]?.length ?? 1) - 1);
    return classes.map((kind, row) => `${kind.name} ${counts.values[row][n]}`).join(", ") || null;
  }

  // Plots are drawn once per view and kept; only the play head moves.
  function render(plot) {
    const canvas = document.querySelector(`#${plot.id} canvas`), width = canvas.parentElement.clientWidth;
    plot.width = width;
    if (!plot.kept) {
      canvas.style.height = plot.height + "px";
      plot.draw(marey.fit(canvas, width, plot.height), width, plot.height);
      plot.kept = document.createElement("canvas");
      plot.kept.width = canvas.width;
      plot.kept.height = canvas.height;
      plot.kept.getContext("2d").drawImage(canvas, 0, 0);
    }
    const pen = marey.fit(canvas, width, plot.height);
    pen.drawImage(plot.kept, 0, 0, width, plot.height);
    playhead(pen, width, plot.height);
  }

  function draw(anew = false) {
    if (marey.clock.now < from || marey.clock.now > to) { look(marey.clock.now, to - from); return; }
    for (const plot of plots) { if (anew) plot.kept = null; render(plot); }
  }

  function look(middle, span) {
    span = Math.min(Math.max(span, 2), duration);
    from = Math.min(Math.max(middle - span / 2, 0), duration - span);
    to = from + span;
    draw(true);
  }

  function listen(plot) {
    const place = marey.get(plot.id), tip = marey.make("div", "", { class: "tip hidden" });
    place.append(tip);
    const time = (event) => from + event.offsetX / plot.width * (to - from);
    place.firstElementChild.addEventListener("click", (event) => marey.clock.seek(time(event)));
    place.firstElementChild.addEventListener("mousemove", (event) => {
      const name = plot.name(time(event), event.offsetY);
      tip.textContent = name ?? marey.clockText(time(event));
      tip.classList.remove("hidden");
      tip.style.left = Math.min(event.offsetX + 10, Math.max(0, plot.width - tip.offsetWidth)) + "px";
      tip.style.top = event.offsetY + 12 + "px";
    });
    place.firstElementChild.addEventListener("mouseleave", () => tip.classList.add("hidden"));
  }

  function addCurve(curve, n) {
    const place = marey.make("div", undefined, { class: "plot", id: "curve-" + n });
    place.append(marey.make("canvas", undefined, { role: "img", "aria-label": `Score of ${curve.label} over time` }));
    marey.get("curves").append(place);
    const seconds = duration / curve.values.length;
    plots.push({ id: place.id, height: CURVE, name: (t) => `${curve.label}: ${curve.values[Math.min(Math.floor(t / seconds), curve.values.length - 1)]}`,
      draw: (pen, width, height) => {
        axis(pen, width, height);
        line(pen, curve.values, seconds, width, height, 1, EVENT);
        pen.fillStyle = INK;
        pen.fillText(`score of ${curve.label}`, 3, 24);
      } });
  }

  function begin() {
    lanes = arrange();
    const rows = lanes.reduce((most, bar) => Math.max(most, bar.lane + 1), 1);
    plots[0].height = tracksTop() + rows * LANE + 4;
    plots[1].height = COUNTS;
    curves.forEach(addCurve);
    plots.forEach(listen);
    for (const kind of classes) {
      const item = marey.make("li"), spot = marey.make("i");
      spot.style.background = kind.colour;
      item.append(spot, kind.name);
      marey.get("key").append(item);
    }
    window.addEventListener("resize", () => draw(true));
    draw(true);
  }

  return { begin, draw, zoom: (factor) => look(marey.clock.now, (to - from) * factor) };
})();
