// The boxes of tracks, loaded by stretch of time; how a piece is packed stands in pipeline/report/packed.py.
"use strict";
marey.tracks = (() => {
  const { seconds, number, scale, beside } = marey.data.pieces;
  const KEPT = 8;
  const holdS = marey.data.hold_s; // of two samples farther apart nothing is said between them
  const loaded = new Map(), waiting = new Map(), arriving = new Map();

  marey.arrived = (piece, text) => { arriving.get(piece)?.(text); arriving.delete(piece); };

  function text(piece) {
    if (!beside) return Promise.resolve(marey.get("piece-" + piece).textContent);
    return new Promise((resolve, reject) => {
      arriving.set(piece, resolve);
      const script = marey.make("script", undefined, { src: `boxes/${piece}.js` });
      script.onload = () => script.remove();
      script.onerror = () => { script.remove(); reject(new Error(`boxes/${piece}.js is missing beside this page`)); };
      document.head.append(script);
    });
  }

  async function unpack(piece) {
    const bytes = Uint8Array.from(atob(await text(piece)), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return runs(await new Response(stream).arrayBuffer(), piece * seconds);
  }

  function column(buffer, at, rows) {
    const values = new Int16Array(buffer, at, rows);
    for (let k = 1; k < rows; k++) values[k] += values[k - 1];
    return values;
  }

  function runs(buffer, start) {
    const [rows, count] = new Uint32Array(buffer, 0, 2);
    const heads = new Uint32Array(buffer, 8, 2 * count);
    let at = 8 + 8 * count;
    const t = new Float32Array(buffer, at, rows);
    at += 4 * rows;
    const sides = [0, 1, 2, 3].map((k) => column(buffer, at + 2 * rows * k, rows));
    const observed = new Uint8Array(buffer, at + 8 * rows, rows);
    const found = [];
    for (let k = 0, from = 0; k < count; from += heads[2 * k + 1], k++) {
      const to = from + heads[2 * k + 1];
      found.push({ object: heads[2 * k], start, t: t.subarray(from, to), observed: observed.subarray(from, to),
        sides: sides.map((side) => side.subarray(from, to)) });
    }
    return found;
  }

  function load(piece) {
    if (loaded.has(piece)) return Promise.resolve();
    if (!waiting.has(piece)) {
      waiting.set(piece, unpack(piece).then((found) => {
        loaded.set(piece, found);
        if (loaded.size > KEPT) loaded.delete(loaded.keys().next().value);
      }).catch((error) => marey.say(`Boxes cannot be shown: ${error.message}`)).finally(() => waiting.delete(piece)));
    }
    return waiting.get(piece);
  }

  const pieceOf = (t) => Math.min(Math.max(Math.floor(t / seconds), 0), number - 1);

  // Runs at a time, or null while they are loaded; `then` is called when they are there.
  function at(t, then) {
    const piece = pieceOf(t);
    if (piece + 1 < number && t - piece * seconds > seconds / 2) load(piece + 1);
    if (!loaded.has(piece)) { load(piece).then(() => { if (loaded.has(piece)) then(); }); return null; }
    return loaded.get(piece);
  }

  // The box of a run [x1, y1, x2, y2, observed] in pixels, linear between samples; null if unknown.
  function box(run, t) {
    const at = t - run.start, k = marey.above(run.t, at + 1e-4) - 1;
    if (k < 0) return null;
    const exact = at - run.t[k] < 2e-3;
    if (!exact && (k + 1 >= run.t.length || run.t[k + 1] - run.t[k] > holdS)) return null;
    const share = exact ? 0 : (at - run.t[k]) / (run.t[k + 1] - run.t[k]);
    const found = run.sides.map((side) => (side[k] + (share ? share * (side[k + 1] - side[k]) : 0)) / scale);
    return [...found, run.observed[k]];
  }

  // Bottom centres of the boxes of the last `length` seconds.
  function trail(run, t, length) {
    const at = t - run.start, [x1, , x2, y2] = run.sides, points = [];
    for (let k = marey.above(run.t, at - length); k < run.t.length && run.t[k] < at; k++) {
      points.push([(x1[k] + x2[k]) / 2 / scale, y2[k] / scale]);
    }
    return points;
  }

  return { at, box, trail, load, pieceOf };
})();
