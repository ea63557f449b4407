// What is known of a moment, drawn over its frame.
"use strict";
marey.overlay = (() => {
  const { width, height, objects, classes, events, shapes } = marey.data;
  const canvas = marey.get("overlay"), stage = marey.get("stage");
  const TRAIL_S = 2.5, CAPTION_S = 2, EVENT = "#ff3d71", RULE = "#00d6d6", MAX_CAPTIONS = 5;
  const is = (id) => marey.get(id).checked;
  const longest = events.reduce((most, event) => Math.max(most, event.t1 - event.t0), CAPTION_S);
  const starts = events.map((event) => event.t0);

  const captionText = (event) => [event.label, event.tracks.length ? "#" + event.tracks.slice(0, 6).join(", #") : "",
    (event.direction ?? "").replaceAll("_", " ")].filter(Boolean).join("  ");

  // Events whose caption stands at a time.
  function present(t) {
    const from = marey.above(starts, t - longest - 1e-6), found = [];
    for (let k = from; k < events.length && starts[k] <= t + 1e-6; k++) {
      if (t < Math.max(events[k].t1, starts[k] + CAPTION_S)) found.push(events[k]);
    }
    return found;
  }

  function tag(pen, text, x, y, colour) {
    const w = pen.measureText(text).width + 6;
    x = Math.min(Math.max(x, 0), Math.max(0, stage.clientWidth - w));
    y = Math.max(y, 15);
    pen.fillStyle = colour;
    pen.fillRect(x, y - 15, w, 15);
    pen.fillStyle = "#000";
    pen.fillText(text, x + 3, y - 3.5);
  }

  function path(pen, points, k) {
    pen.beginPath();
    points.forEach(([x, y], n) => (n ? pen.lineTo(x * k, y * k) : pen.moveTo(x * k, y * k)));
  }

  function drawPlaces(pen, k, stirred) {
    for (const shape of shapes) {
      const active = shape.names.filter((name) => stirred.has(name));
      pen.strokeStyle = active.length ? EVENT : RULE;
      path(pen, shape.points, k);
      if (shape.closed) { pen.closePath(); pen.fillStyle = pen.strokeStyle + "30"; pen.fill(); }
      pen.stroke();
      const [x, y] = shape.points[0];
      if (is("names")) tag(pen, (active.length ? active : shape.names)[0], x * k, y * k, pen.strokeStyle);
    }
  }

  function corners(pen, x, y, w, h) {
    const a = Math.min(Math.max(w / 4, 2), w / 2), b = Math.min(Math.max(h / 4, 2), h / 2);
    pen.beginPath();
    for (const [px, dx] of [[x, a], [x + w, -a]]) for (const [py, dy] of [[y, b], [y + h, -b]]) {
      pen.moveTo(px + dx, py); pen.lineTo(px, py); pen.lineTo(px, py + dy);
    }
    pen.stroke();
  }

  function drawTrack(pen, run, t, k, stirred, drawn) {
    const [id, kind] = objects[run.object], colour = classes[kind].colour;
    const box = marey.tracks.box(run, t);
    pen.strokeStyle = colour;
    if (is("trails")) {
      const points = marey.tracks.trail(run, t, TRAIL_S);
      if (box) points.push([(box[0] + box[2]) / 2, box[3]]);
      if (points.length > 1) { path(pen, points, k); pen.stroke(); }
    }
    if (!box || !is("boxes")) return;
    const [x1, y1, x2, y2, observed] = box;
    drawn.push({ id, box: [x1, y1, x2, y2] });
    pen.lineWidth = stirred.has(id) ? 3 : 2;
    if (observed) pen.strokeRect(x1 * k, y1 * k, (x2 - x1) * k, (y2 - y1) * k);
    else corners(pen, x1 * k, y1 * k, (x2 - x1) * k, (y2 - y1) * k);
    pen.lineWidth = 2;
    if (is("names")) tag(pen, `${classes[kind].name} ${id}`, x1 * k, y1 * k, stirred.has(id) ? EVENT : colour);
  }

  // Draw a moment; `drawn` says afterwards which boxes stand where, in pixels of the video.
  function draw(t) {
    const k = stage.clientWidth / width;
    const pen = marey.fit(canvas, stage.clientWidth, stage.clientWidth * height / width);
    pen.lineWidth = 2;
    pen.lineJoin = "round";
    pen.font = `${stage.clientWidth < 480 ? 10 : 12}px system-ui, sans-serif`;
    const now = present(t), drawn = [];
    if (is("places")) drawPlaces(pen, k, new Set(now.flatMap((event) => [event.zone, event.label])));
    const stirred = new Set(now.flatMap((event) => event.tracks));
    const runs = marey.tracks.at(t, () => { if (Math.abs(marey.clock.now - t) < 1e-9) draw(t); });
    for (const run of runs ?? []) drawTrack(pen, run, t, k, stirred, drawn);
    if (is("names")) now.slice(-MAX_CAPTIONS).reverse().forEach((event, n) =>
      tag(pen, captionText(event), 6, stage.clientWidth * height / width - 6 - 18 * n, EVENT));
    marey.overlay.drawn = { t, ready: runs !== null, boxes: drawn };
  }

  return { draw, drawn: null, captionText };
})();
