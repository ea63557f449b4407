// What lines and zones would count, by the same reading of the tracks as pipeline/rules: a border counts as passed
// when the anchor is `hysteresis` box heights beyond it, at the last change of side before that.
"use strict";
const counting = (() => {
  const EDGE_PX = 0.5, APART_S = 10;

  function lineOf([[ax, ay], [bx, by]], width, height) {
    const dx = bx - ax, dy = by - ay, length = Math.hypot(dx, dy);
    const atEdge = (x, y) => x <= EDGE_PX || y <= EDGE_PX || x >= width - EDGE_PX || y >= height - EDGE_PX;
    const low = atEdge(ax, ay) ? -Infinity : 0, high = atEdge(bx, by) ? Infinity : 1;
    return {
      signed: (x, y) => (dx * (y - ay) - dy * (x - ax)) / length,
      drawn: (x, y) => { const at = ((x - ax) * dx + (y - ay) * dy) / (length * length); return at >= low && at <= high; },
      band: (wish) => wish,
    };
  }

  function inside(points, x, y) {
    let found = false;
    for (let k = 0, j = points.length - 1; k < points.length; j = k++) {
      const [ax, ay] = points[k], [bx, by] = points[j];
      if (ay > y !== by > y && x < (bx - ax) * (y - ay) / (by - ay) + ax) found = !found;
    }
    return found;
  }

  function toSegment([ax, ay], [bx, by], x, y) {
    const dx = bx - ax, dy = by - ay, share = Math.min(Math.max(((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1), 0), 1);
    return Math.hypot(x - ax - share * dx, y - ay - share * dy);
  }

  // A zone that touches the picture's edge goes on outside it: those sides are no border, and who is outside the
  // picture is taken to the nearest point of it.
  function zoneOf(points, width, height) {
    const on = ([ax, ay], [bx, by]) => Math.max(ax, bx) <= EDGE_PX || Math.max(ay, by) <= EDGE_PX ||
      Math.min(ax, bx) >= width - EDGE_PX || Math.min(ay, by) >= height - EDGE_PX;
    const sides = points.map((point, k) => [point, points[(k + 1) % points.length]]);
    const border = sides.filter(([a, b]) => !on(a, b));
    const nearest = (list, x, y) => list.reduce((least, [a, b]) => Math.min(least, toSegment(a, b, x, y)), Infinity);
    const clamp = (x, y) => [Math.min(Math.max(x, 0.01), width - 0.01), Math.min(Math.max(y, 0.01), height - 0.01)];
    const xs = points.map((p) => p[0]), ys = points.map((p) => p[1]);
    const x0 = Math.min(...xs), y0 = Math.min(...ys), wide = Math.max(...xs) - x0, high = Math.max(...ys) - y0;
    let inner = 0; // radius of the largest circle inside, about
    for (let k = 1; k < 32; k++) for (let j = 1; j < 32; j++) {
      const x = x0 + wide * k / 32, y = y0 + high * j / 32;
      if (inside(points, x, y)) inner = Math.max(inner, nearest(sides, x, y));
    }
    return {
      signed: (x, y) => { const d = nearest(border, x, y); return inside(points, ...clamp(x, y)) ? d : -d; },
      drawn: () => true,
      band: (wish) => Math.min(wish, inner / 2),
    };
  }

  // Sides of one track: calls `flip(side, from, to)` at each passage and `rest(side, t)` at each row.
  function follow(track, border, hysteresis, flip, rest) {
    let side = 0, last = null, passed = {};
    track.t.forEach((t, k) => {
      if (last && t - last.t > APART_S) { side = 0; last = null; passed = {}; }
      const now = { t, x: track.x[k], y: track.y[k] };
      now.d = border.signed(now.x, now.y);
      if (last && last.d <= 0 && now.d > 0) passed[1] = [last, now];
      if (last && last.d >= 0 && now.d < 0) passed[-1] = [last, now];
      const sign = Math.sign(now.d);
      const known = side === 0 || Math.abs(now.d) >= border.band(hysteresis * track.h[k]) ? sign : 0;
      if (known && known !== side) {
        if (side && passed[known]) flip(known, ...passed[known]);
        side = known;
      }
      rest(side, t);
      last = now;
    });
  }

  function add(table, kind) { table[kind] = (table[kind] ?? 0) + 1; }

  // Crossings of a line by direction and class.
  function crossings(tracks, points, width, height, { classes = [], direction = "both", hysteresis = 0.05 } = {}) {
    const border = lineOf(points, width, height), found = { left_to_right: {}, right_to_left: {} };
    for (const track of tracks) {
      if (classes.length && !classes.includes(track.class)) continue;
      follow(track, border, hysteresis, (side, a, b) => {
        const share = a.d === b.d ? 0 : a.d / (a.d - b.d), way = side > 0 ? "left_to_right" : "right_to_left";
        if (direction !== "both" && direction !== way) return;
        if (border.drawn(a.x + share * (b.x - a.x), a.y + share * (b.y - a.y))) add(found[way], track.class);
      }, () => {});
    }
    return found;
  }

  // Entries to a zone and exits from it by class.
  function visits(tracks, points, width, height, { classes = [], hysteresis = 0.05 } = {}) {
    const border = zoneOf(points, width, height), found = { entries: {}, exits: {} };
    for (const track of tracks) {
      if (classes.length && !classes.includes(track.class)) continue;
      follow(track, border, hysteresis, (side) => add(side > 0 ? found.entries : found.exits, track.class), () => {});
    }
    return found;
  }

  return { crossings, visits };
})();
if (typeof module !== "undefined") module.exports = counting;
