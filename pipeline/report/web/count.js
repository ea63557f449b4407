// What lines and zones would count, by the same reading of the tracks as pipeline/rules, whose words these are: a
// border counts as passed when the anchor is `hysteresis` box heights beyond it, at the last change of side before.
"use strict";
const counting = (() => {
  const EDGE_PX = 1, APART_S = 10, HOLD_S = 1, SAME_S = 1e-6;

  function lineOf([[ax, ay], [bx, by]], width, height) {
    const dx = bx - ax, dy = by - ay, length = Math.hypot(dx, dy);
    const atEdge = (x, y) => x <= EDGE_PX || y <= EDGE_PX || x >= width - EDGE_PX || y >= height - EDGE_PX;
    const low = atEdge(ax, ay) ? -Infinity : 0, high = atEdge(bx, by) ? Infinity : 1;
    const signed = (x, y) => (dx * (y - ay) - dy * (x - ax)) / length;
    return {
      signed,
      band: (wish) => wish,
      passage(a, b) {
        const share = a.d === b.d ? 0 : a.d / (a.d - b.d), x = a.x + share * (b.x - a.x), y = a.y + share * (b.y - a.y);
        const at = ((x - ax) * dx + (y - ay) * dy) / (length * length);
        return { share, drawn: at >= low && at <= high };
      },
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
  function zoneOf(drawn, width, height) {
    const snap = (at, size) => (at <= EDGE_PX ? 0 : at >= size - EDGE_PX ? size : at);
    const points = drawn.map(([x, y]) => [snap(x, width), snap(y, height)]);
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
      band: (wish) => Math.min(wish, inner / 2),
      passage(a, b) { // the last place at which the step meets the border
        const met = border.map((side) => meeting(a, b, side)).filter((share) => share !== null);
        return { share: met.length ? Math.max(...met) : a.d === b.d ? 0 : a.d / (a.d - b.d), drawn: true };
      },
    };
  }

  // Share of the step from a to b at which it meets a side, or null.
  function meeting(a, b, [[cx, cy], [ex, ey]]) {
    const dx = b.x - a.x, dy = b.y - a.y, sx = ex - cx, sy = ey - cy, cross = dx * sy - dy * sx;
    if (cross === 0) return null;
    const share = ((cx - a.x) * sy - (cy - a.y) * sx) / cross, along = ((cx - a.x) * dy - (cy - a.y) * dx) / cross;
    return share >= 0 && share <= 1 && along >= -1e-9 && along <= 1 + 1e-9 ? share : null;
  }

  const classAt = (track, k) => (typeof track.class === "string" ? track.class : track.class[k]);

  // One track's rows in order, with its side of the border: `row(now, side, passed)`, where `passed` is null or the
  // moment { t, drawn } at which it came to this side, and `gone(t, kind)` when it is away for longer than `apart` seconds.
  // `now.kind` is what the object is taken for there.
  function follow(track, border, options, apart, row, gone) {
    const centre = options.anchor === "centre", hysteresis = options.hysteresis ?? 0.05;
    let side = 0, last = null, flips = {};
    track.t.forEach((t, k) => {
      if (last && t - last.t > apart) { gone(last.t, last.kind); side = 0; last = null; flips = {}; }
      const now = { t, x: track.x[k], y: track.y[k] - (centre ? track.h[k] / 2 : 0), kind: classAt(track, k) };
      now.d = border.signed(now.x, now.y);
      if (last && last.d <= 0 && now.d > 0) flips[1] = [last, now];
      if (last && last.d >= 0 && now.d < 0) flips[-1] = [last, now];
      const sign = Math.sign(now.d), known = side === 0 || Math.abs(now.d) >= border.band(hysteresis * track.h[k]) ? sign : 0;
      let passed = null;
      if (known && known !== side) {
        if (side && flips[known]) {
          const [a, b] = flips[known], { share, drawn } = border.passage(a, b);
          passed = { t: a.t + share * (b.t - a.t), drawn };
        }
        side = known;
      }
      row(now, side, passed);
      last = now;
    });
    if (last) gone(last.t, last.kind);
  }

  const add = (table, kind) => { table[kind] = (table[kind] ?? 0) + 1; };
  // The rows of the classes that count, if not all do: what an object is taken for may change from row to row.
  function chosen(tracks, { classes = [] }) {
    if (!classes.length) return tracks;
    return tracks.map((track) => {
      const rows = track.t.map((_, k) => k).filter((k) => classes.includes(classAt(track, k)));
      const of = (column) => rows.map((k) => column[k]);
      return { ...track, class: rows.map((k) => classAt(track, k)), t: of(track.t), x: of(track.x), y: of(track.y), h: of(track.h) };
    });
  }

  // Crossings of a line by direction and class.
  function crossings(tracks, points, width, height, options = {}) {
    const border = lineOf(points, width, height), found = { left_to_right: {}, right_to_left: {} };
    const wanted = options.direction ?? "both";
    for (const track of chosen(tracks, options)) {
      follow(track, border, options, APART_S, (now, side, passed) => {
        const way = side > 0 ? "left_to_right" : "right_to_left";
        if (passed?.drawn && (wanted === "both" || wanted === way)) add(found[way], now.kind);
      }, () => {});
    }
    return found;
  }

  // Stays on a side of a border of `least` seconds or more: `begun(kind, passed)` when one is long enough, `over(seconds, kind)`
  // at its end, each with what the object is taken for then, and `passed` if it came over the border.
  function stays(wanted, least, begun, over) {
    let stay = null, fresh = true;
    const meet = (kind) => { stay.met = true; begun(kind, stay.passed); };
    return {
      row(now, side, passed) {
        if (fresh && side) { fresh = false; if (side === wanted) stay = { since: now.t, passed: false, met: false }; }
        if (passed && side === wanted) stay = { since: passed.t, passed: true, met: false };
        else if (passed && stay) {
          if (!stay.met && passed.t >= stay.since + least - SAME_S) meet(now.kind);
          if (stay.met) over(passed.t - stay.since, now.kind);
          stay = null;
        }
        if (stay && !stay.met && now.t >= stay.since + least - SAME_S && now.d * wanted > 0) meet(now.kind);
      },
      gone(t, kind) { if (stay?.met) over(t - stay.since, kind); stay = null; fresh = true; },
    };
  }

  // Entries to a zone, exits from it and stays in it, each by class, of at least so many seconds; the longest stay.
  function visits(tracks, points, width, height, options = {}, { entry = 0, exit = 0, dwell = 5 } = {}) {
    const border = zoneOf(points, width, height), found = { entries: {}, exits: {}, dwells: {}, longest: 0 };
    for (const track of chosen(tracks, options)) {
      const parts = [
        stays(1, entry, (kind, passed) => { if (passed) add(found.entries, kind); }, () => {}),
        stays(-1, exit, (kind, passed) => { if (passed) add(found.exits, kind); }, () => {}),
        stays(1, dwell, () => {}, (seconds, kind) => { add(found.dwells, kind); found.longest = Math.max(found.longest, seconds); }),
      ];
      follow(track, border, options, APART_S, (...row) => parts.forEach((part) => part.row(...row)),
        (...end) => parts.forEach((part) => part.gone(...end)));
    }
    return found;
  }

  // When objects of one video came in (1) and went (-1): [t, number of the track, step], in order of time.
  function changes(tracks, border, options) {
    const found = [], hold = options.hold_s ?? HOLD_S;
    tracks.forEach((track, number) => {
      let known = false, inside = false;
      const change = (t, step) => { inside = step > 0; found.push([t, number, step]); };
      follow(track, border, options, hold, (now, side, passed) => {
        if (!known && side) { known = true; if (side > 0) change(now.t, 1); }
        if (passed) change(Math.max(passed.t, now.t - hold), side);
      }, (t) => { if (inside) change(t, -1); known = false; inside = false; });
    });
    return found.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  }

  // How often `min_count` objects or more were in a zone for `min_duration_s` seconds or more, and how many at most.
  function occupancy(tracks, points, width, height, options = {}) {
    const border = zoneOf(points, width, height), { min_count: enough = 1, min_duration_s: least = 0 } = options;
    const found = { times: 0, most: 0, longest: 0 }, hold = options.hold_s ?? HOLD_S;
    for (const video of new Set(tracks.map((track) => track.video))) {
      const there = new Set();
      let since = null, fell = null, most = 0;
      const until = (t) => {
        if (since === null || fell === null || t - fell <= hold) return;
        if (fell - since >= least - SAME_S) {
          found.times++;
          found.most = Math.max(found.most, most);
          found.longest = Math.max(found.longest, fell - since);
        }
        since = null;
      };
      for (const [t, number, step] of changes(chosen(tracks, options).filter((track) => track.video === video), border, options)) {
        until(t);
        if (step > 0) there.add(number); else there.delete(number);
        if (there.size < enough) { fell ??= t; continue; }
        fell = null;
        if (since === null) { since = t; most = 0; }
        most = Math.max(most, there.size);
      }
      until(Infinity);
    }
    return found;
  }

  return { crossings, visits, occupancy };
})();
if (typeof module !== "undefined") module.exports = counting;
