// Molecules on a plain 2-D canvas: balls, sticks, lines and words, drawn from far to near with
// perspective and haze. Turned by mouse, touch or keyboard. Knows nothing of the page around it.
//
// A part: {kind: "ball" | "stick" | "line" | "text" | "spot", a, b, radius (Å), width (pixels, or
// Å where `wide`), colour "#rrggbb", dash, text, label, around, clear}. A spot is not drawn;
// it has a label only. What is `around` the matter fades where it comes between it and the eye;
// what is `clear` keeps its colour at any depth, because the colour is a number.
const moleculeView = (canvas, onPoint) => {
  "use strict";
  const pen = canvas.getContext("2d");
  const STEP = 0.12; // radians for each press of an arrow key
  let parts = [];
  let spots = []; // what can be pointed at, in pixels
  let look = { centre: [0, 0, 0], axes: [[1, 0, 0], [0, 1, 0], [0, 0, 1]], reach: 10 };
  let centre, axes, zoom, shift, waiting;

  const reset = () => {
    centre = look.centre;
    axes = look.axes;
    zoom = 1;
    shift = [0, 0];
    later();
  };
  const later = () => {
    waiting ||= requestAnimationFrame(draw);
  };

  const numbers = (colour) =>
    colour[0] === "#"
      ? [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16))
      : colour.match(/[\d.]+/g).slice(0, 3).map(Number);
  const mixed = (one, other, share) => one.map((c, i) => c + share * (other[i] - c));
  const css = (rgb) => `rgb(${rgb.map(Math.round).join(" ")})`;
  const BLACK = [0, 0, 0];
  const WHITE = [255, 255, 255];

  const stroke = (from, to, width, colour) => {
    pen.lineWidth = width;
    pen.strokeStyle = colour;
    pen.beginPath();
    pen.moveTo(from.x, from.y);
    pen.lineTo(to.x, to.y);
    pen.stroke();
  };

  const paint = {
    ball({ part, a, colour }) {
      const r = part.radius * a.scale;
      const light = pen.createRadialGradient(a.x - 0.35 * r, a.y - 0.4 * r, 0.05 * r, a.x, a.y, r);
      light.addColorStop(0, css(mixed(colour, WHITE, 0.5)));
      light.addColorStop(0.5, css(colour));
      light.addColorStop(0.92, css(mixed(colour, BLACK, 0.3)));
      light.addColorStop(1, css(mixed(colour, BLACK, 0.5)));
      pen.fillStyle = light;
      pen.beginPath();
      pen.arc(a.x, a.y, r, 0, 2 * Math.PI);
      pen.fill();
    },
    stick({ part, a, b, colour }) {
      const width = part.radius * (a.scale + b.scale);
      pen.lineCap = "butt";
      pen.setLineDash(part.dash ? [1.6 * width, 1.1 * width] : []);
      stroke(a, b, width, css(mixed(colour, BLACK, 0.45)));
      stroke(a, b, 0.76 * width, css(colour));
      stroke(a, b, 0.28 * width, css(mixed(colour, WHITE, 0.35)));
      pen.setLineDash([]);
    },
    line({ part, a, b, colour }) {
      pen.lineCap = part.dash ? "butt" : "round";
      pen.setLineDash(part.dash || []);
      stroke(a, b, part.wide ? (part.width * (a.scale + b.scale)) / 2 : part.width, css(colour));
      pen.setLineDash([]);
    },
    // Words lie over everything; those that would cover others are left out.
    text({ part, a, colour, ground }, taken) {
      pen.font = "600 11px system-ui, sans-serif";
      pen.textAlign = "center";
      pen.lineJoin = "round";
      pen.lineWidth = 3;
      pen.strokeStyle = css(ground);
      const half = pen.measureText(part.text).width / 2 + 4;
      const x = Math.max(half, Math.min(canvas.clientWidth - half, a.x)); // whole, if it is near
      const clash = (other) => Math.abs(other.x - x) < other.half + half && Math.abs(other.y - a.y) < 13;
      if (Math.abs(x - a.x) > half || taken.some(clash)) return;
      taken.push({ x, y: a.y, half });
      pen.strokeText(part.text, x, a.y);
      pen.fillStyle = css(colour);
      pen.fillText(part.text, x, a.y);
    },
    spot() {},
  };

  const draw = () => {
    waiting = 0;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (!width || !height) return;
    const dense = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * dense); // which also clears it
    canvas.height = Math.round(height * dense);
    pen.setTransform(dense, 0, 0, dense, 0, 0);
    const ground = numbers(getComputedStyle(canvas).backgroundColor);
    const { reach } = look;
    const eye = 4.5 * reach; // Å from the centre
    const unit = (zoom * Math.min(width, height)) / (2 * reach); // pixels an Å
    const project = (place) => {
      const d = place.map((v, i) => v - centre[i]);
      const [x, y, z] = axes.map((axis) => axis[0] * d[0] + axis[1] * d[1] + axis[2] * d[2]);
      const scale = (unit * eye) / Math.max(eye - z, 1);
      return { x: width / 2 + shift[0] + x * scale, y: height / 2 + shift[1] - y * scale, z, scale };
    };
    const items = parts.map((part) => {
      const a = project(part.a);
      const b = part.b && project(part.b);
      return { part, a, b, ground, z: b ? (a.z + b.z) / 2 : a.z };
    });
    items.sort((one, other) => one.z - other.z);
    const words = items.filter((item) => item.part.kind === "text").reverse(); // the nearest first
    const taken = [];
    spots = [];
    for (const item of [...items.filter((item) => item.part.kind !== "text"), ...words]) {
      const { part, a, z } = item;
      if (z > eye / 2) continue; // too near to the eye to be anything but in the way
      const far = 4 * a.scale + 40; // pixels: longer than a bond and than a word
      const outside = (p) => p.x < -far || p.y < -far || p.x > width + far || p.y > height + far;
      if (outside(a) && (!item.b || outside(item.b))) continue;
      const haze = Math.min(1, Math.max(0, 0.5 - z / (2.2 * reach)) ** 1.3);
      const veil = part.around ? Math.max(0, (z - 2) / reach) : 0; // before what matters
      const share = (part.clear ? 0.2 : 0.8) * Math.min(1, haze + veil);
      item.colour = mixed(numbers(part.colour || "#000000"), ground, share);
      paint[part.kind](item, taken);
      if (part.label) spots.push({ ...a, label: part.label, size: (part.radius || 0) * a.scale });
    }
  };

  const turn = (across, up) => {
    const [c, s, d, t] = [Math.cos(across), Math.sin(across), Math.cos(up), Math.sin(up)];
    const [x, y, z] = axes;
    const sum = (p, one, q, other) => one.map((v, i) => p * v + q * other[i]);
    const side = sum(c, z, -s, x);
    axes = [sum(c, x, s, z), sum(d, y, -t, side), sum(t, y, d, side)];
    later();
  };
  const scale = (factor) => {
    zoom = Math.min(12, Math.max(0.2, zoom * factor));
    later();
  };
  const move = (x, y) => {
    shift = [shift[0] + x, shift[1] + y];
    later();
  };

  const held = new Map(); // pointers that are down
  const spread = () => {
    const [one, other] = [...held.values()];
    return Math.hypot(one.x - other.x, one.y - other.y) || 1;
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, { x: event.clientX, y: event.clientY });
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = held.get(event.pointerId);
    if (!before) return point(event);
    const [x, y] = [event.clientX - before.x, event.clientY - before.y];
    const gap = held.size === 2 ? spread() : 0;
    held.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (gap) {
      scale(spread() / gap);
      move(x / 2, y / 2);
    } else if (event.shiftKey || event.buttons === 2) move(x, y);
    else turn(0.009 * x, 0.009 * y);
  });
  for (const end of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(end, (event) => held.delete(event.pointerId));
  }
  canvas.addEventListener("pointerleave", () => onPoint(""));
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", reset);
  canvas.addEventListener(
    "wheel",
    (event) => {
      // A page that scrolls past must not be caught: the wheel zooms once the view was clicked.
      if (document.activeElement !== canvas && !event.ctrlKey) return;
      event.preventDefault();
      scale(Math.exp(-0.0015 * event.deltaY));
    },
    { passive: false },
  );
  const point = (event) => {
    const { left, top } = canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - left, event.clientY - top];
    const hit = spots
      .filter((spot) => Math.hypot(spot.x - x, spot.y - y) < Math.max(8, spot.size))
      .reduce((best, spot) => (best && best.z > spot.z ? best : spot), null);
    onPoint(hit ? hit.label : "");
  };
  const keys = {
    ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1],
  };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const arrow = keys[event.key];
    if (arrow && event.shiftKey) move(24 * arrow[0], 24 * arrow[1]);
    else if (arrow) turn(STEP * arrow[0], STEP * arrow[1]);
    else if (event.key === "+" || event.key === "=") scale(1.15);
    else if (event.key === "-") scale(1 / 1.15);
    else if (event.key === "0" || event.key === "Home") reset();
    else return;
    event.preventDefault();
  });
  new ResizeObserver(later).observe(canvas);
  reset();

  return {
    // Draw these parts. The eye stays where it is unless `newLook` says from where to look.
    show(newParts, newLook) {
      parts = newParts;
      if (newLook) {
        look = newLook;
        reset();
      }
      later();
    },
    // Bring a place into the middle if it is far from it.
    follow(place) {
      const gap = Math.hypot(...place.map((v, i) => v - centre[i]));
      if (gap > look.reach / 2) centre = place;
      later();
    },
    redraw: later,
    reset,
    scale,
  };
};
