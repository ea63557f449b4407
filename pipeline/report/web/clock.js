// Time of the page, in seconds from the first displayed frame: the video's where it plays, else our own.
"use strict";
marey.clock = (() => {
  const { duration, source, codec, start } = marey.data;
  const video = marey.get("video");
  const AIM_S = 0.002; // aimed a little behind a frame's time, rounding does not show the frame before
  const listeners = [];
  let own = true, now = 0, playing = false, since = 0, speed = 1;
  let first; // the time that the media gives to the first displayed frame
  let aim = start; // where to go when that is known: phones show nothing before they are asked

  const tell = () => listeners.forEach((listener) => listener(now, playing));
  const clamp = (t) => Math.min(Math.max(t, 0), duration);

  function tick(stamp) {
    if (!own || !playing) return;
    now = clamp(now + (stamp - since) / 1000 * speed);
    since = stamp;
    if (now >= duration) playing = false;
    tell();
    requestAnimationFrame(tick);
  }

  function shown(media) {
    if (own) return;
    if (first === undefined) { first = media; now = 0; if (aim > 0) seek(aim); } else now = Math.max(0, media - first);
    tell();
  }

  function watch() {
    if ("requestVideoFrameCallback" in video) {
      const frame = (_, { mediaTime }) => { shown(mediaTime); video.requestVideoFrameCallback(frame); };
      video.requestVideoFrameCallback(frame);
      return;
    }
    const frame = () => { if (!video.paused) shown(video.currentTime); requestAnimationFrame(frame); };
    requestAnimationFrame(frame);
    video.addEventListener("seeked", () => shown(video.currentTime));
    video.addEventListener("loadeddata", () => shown(video.currentTime), { once: true });
  }

  function without(reason) {
    own = true;
    playing = false;
    video?.remove();
    marey.say(reason);
    if (first === undefined) now = clamp(aim);
    tell();
  }

  function play() {
    if (playing) return;
    playing = true;
    if (own) {
      if (now >= duration) now = 0;
      since = performance.now();
      requestAnimationFrame(tick);
    } else video.play().catch(() => { playing = false; tell(); });
    tell();
  }

  function pause() {
    playing = false;
    if (!own) video.pause();
    tell();
  }

  function seek(t) {
    now = clamp(t);
    if (first !== undefined && !own) video.currentTime = now + first + AIM_S;
    else if (!own) {
      aim = now;
      if (!video.seeking) video.currentTime = 0; // asks for the first frame
    }
    tell();
  }

  function setSpeed(value) {
    speed = value;
    if (video) video.playbackRate = value;
  }

  function begin() {
    if (!source) { without("The video is not at hand: tracks are shown without it."); return; }
    own = false;
    video.addEventListener("error", () => without(
      `This browser cannot play the video (${codec ?? "unknown codec"}), or it is no longer there: tracks are shown without it.`));
    video.addEventListener("loadedmetadata", () => {
      if (!video.videoWidth) without(`This browser cannot play the video's codec (${codec}): tracks are shown without it.`);
    });
    video.addEventListener("pause", () => { playing = false; tell(); });
    video.addEventListener("play", () => { playing = true; tell(); });
    watch();
    video.src = source;
  }

  return { begin, play, pause, seek, setSpeed, listen: (listener) => listeners.push(listener),
    toggle: () => (playing ? pause() : play()), get now() { return now; }, get playing() { return playing; },
    get own() { return own; } };
})();
