// Ties the page of `hubel dock` together: the tables choose the ligand and the pose that the view
// shows, the boxes under it choose what is drawn with them, and column heads sort.
(() => {
  "use strict";
  const NARROW = 3.5; // Å between a nitrogen or oxygen of both sides: a polar contact
  const BESIDE = 4.0; // Å: residues named as beside the ligand
  const data = JSON.parse(document.getElementById("docking-data").textContent);
  const find = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const canvas = find(".molecule canvas");
  const pointed = find("#pointed");
  const help = pointed.textContent;
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const option = (name) => find(`[name=${name}]`)?.checked;
  const state = { ligand: data.ligands.findIndex((l) => l.poses.length), pose: 0 };

  // ---- colours: carbon tells who is who, the other elements have their usual ones
  const ELEMENTS = {
    H: "#e8e8e8", N: "#3d63dd", O: "#dc3c32", S: "#d9a800", P: "#e2780c", F: "#3aa648",
    Cl: "#3aa648", Br: "#a0522d", I: "#8a3fc0", B: "#e79a9a", Se: "#c98a12",
  };
  const carbons = () =>
    scheme.matches
      ? { pose: "#4ecdbd", crystal: "#e3c26a", pocket: "#8a93a3", backbone: "#56617a" }
      : { pose: "#0f8a7e", crystal: "#b0892b", pocket: "#7d8695", backbone: "#b4bfd2" };
  const byElement = (element, carbon) =>
    element === "C" ? carbon : ELEMENTS[element] || "#8577b5"; // the rest are metals

  // ---- small vectors
  const at = (molecule, i) => molecule.x.slice(3 * i, 3 * i + 3);
  const between = (a, b, share = 0.5) => a.map((v, i) => v + share * (b[i] - v));
  const apart = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1], a[2] - b[2]);
  const minus = (a, b) => a.map((v, i) => v - b[i]);
  const plus = (a, b, times) => a.map((v, i) => v + times * b[i]);
  const dot = (a, b) => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
  const unit = (a) => a.map((v) => v / (Math.hypot(...a) || 1));
  const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toPrecision(2)}`;

  function* bonds(molecule) {
    for (let i = 0; i < molecule.b.length; i += 3) yield molecule.b.slice(i, i + 3);
  }
  const kept = (molecule, i) => molecule.e[i] !== "H" || option("hydrogens");

  // Across a bond, in the plane of its neighbours: where the second line of a double bond goes.
  const sideways = (molecule, i, j, order) => {
    const along = unit(minus(at(molecule, j), at(molecule, i)));
    const beside = [...bonds(molecule)]
      .filter(([a, b]) => [a, b].filter((k) => k === i || k === j).length === 1)
      .sort((one, other) => (other[2] === order) - (one[2] === order));
    const [near, far] = beside[0] || [i, j];
    const [from, to] = near === i || near === j ? [near, far] : [far, near];
    const out = beside.length ? minus(at(molecule, to), at(molecule, from)) : [0.3, 0.5, 0.8];
    return unit(plus(out, along, -dot(out, along)));
  };

  const balls = (molecule, colour, size, label) => {
    const parts = [];
    molecule.e.forEach((element, i) => {
      if (!kept(molecule, i)) return;
      const radius = element === "H" ? 0.6 * size.ball : size.ball;
      parts.push({ kind: "ball", a: at(molecule, i), radius, colour: colour(i), label: label(i) });
    });
    for (const [i, j, order] of bonds(molecule)) {
      if (!kept(molecule, i) || !kept(molecule, j)) continue;
      const side = order > 1 ? sideways(molecule, i, j, order) : [0, 0, 0];
      const lines = { 1: [0], 1.5: [0, 0.26], 2: [-0.13, 0.13], 3: [-0.2, 0, 0.2] }[order] || [0];
      for (const off of lines) {
        const [a, b] = [at(molecule, i), at(molecule, j)].map((p) => plus(p, side, off));
        const thin = lines.length > 1 && (order !== 1.5 || off);
        const stick = { kind: "stick", radius: size.stick * (thin ? 0.55 : 1), dash: order === 1.5 && off };
        const middle = between(a, b);
        const start = order === 1.5 && off ? 0.3 : 0.12; // from within the ball
        parts.push({ ...stick, a: between(a, b, start), b: middle, colour: colour(i) });
        parts.push({ ...stick, a: middle, b: between(a, b, 1 - start), colour: colour(j) });
      }
    }
    return parts;
  };

  // The atoms of the residues with an atom within `distance` of the pose, and how near each is.
  const neighbours = (pose, distance) => {
    const { pocket } = data;
    const gaps = new Map(); // residue -> its nearest atom
    const places = pose.e.map((_, i) => at(pose, i));
    pocket.e.forEach((_, i) => {
      const place = at(pocket, i);
      const gap = Math.min(...places.map((p) => apart(p, place)));
      const known = gaps.get(pocket.n ? pocket.n[i] : i);
      if (gap <= distance && !(known && known.gap <= gap)) gaps.set(pocket.n ? pocket.n[i] : i, { gap, i });
    });
    return gaps;
  };

  const residueParts = (near, values, limit, carbon) => {
    const { pocket } = data;
    const isNear = (i) => near.has(pocket.n ? pocket.n[i] : i) && kept(pocket, i);
    const told = new Map(values ? values.i.map((i, n) => [i, [values.c[n], data.ramp[values.k[n]]]]) : []);
    const strong = (i) => told.has(i) && Math.abs(told.get(i)[0]) > 0.08 * limit;
    const colour = (i) =>
      strong(i) ? told.get(i)[1] : values ? carbon : byElement(pocket.e[i], carbon);
    const bonded = new Set();
    const parts = [];
    for (const [i, j] of bonds(pocket)) {
      bonded.add(i).add(j);
      if (!isNear(i) || !isNear(j)) continue;
      const [a, b] = [at(pocket, i), at(pocket, j)];
      parts.push({ kind: "line", a, b: between(a, b), width: strong(i) ? 3 : 1.6, colour: colour(i), around: !strong(i) });
      parts.push({ kind: "line", a: between(a, b), b, width: strong(j) ? 3 : 1.6, colour: colour(j), around: !strong(j) });
    }
    pocket.e.forEach((element, i) => {
      if (!isNear(i)) return;
      const label = [pocket.r?.[pocket.n[i]], pocket.a?.[i] || element].filter(Boolean).join(" · ");
      const value = told.has(i) ? `, contributes ${signed(told.get(i)[0])}` : "";
      const alone = !bonded.has(i); // a water or a metal
      const radius = strong(i) ? 0.28 : alone ? (element === "O" ? 0.22 : 0.5) : 0;
      parts.push({ kind: radius ? "ball" : "spot", a: at(pocket, i), radius, colour: colour(i), label: label + value });
    });
    return parts;
  };

  const backboneParts = (colour) =>
    data.backbone.flatMap((flat) => {
      const p = Array.from({ length: flat.length / 3 }, (_, i) => flat.slice(3 * i, 3 * i + 3));
      const parts = [];
      for (let i = 0; i + 1 < p.length; i++) {
        // Catmull and Rom's curve, through all the Cα
        const [p0, p1, p2, p3] = [p[i - 1] || p[i], p[i], p[i + 1], p[i + 2] || p[i + 1]];
        const on = (t) =>
          p1.map((v, k) => 0.5 * (2 * v + (p2[k] - p0[k]) * t
            + (2 * p0[k] - 5 * v + 4 * p2[k] - p3[k]) * t * t
            + (3 * v - p0[k] - 3 * p2[k] + p3[k]) * t ** 3));
        for (let s = 0; s < 5; s++) {
          parts.push({ kind: "line", a: on(s / 5), b: on((s + 1) / 5), width: 0.34, wide: true, colour, around: true });
        }
      }
      return parts;
    });

  const contactParts = (pose, near, colour) => {
    const polar = (molecule) => molecule.e.flatMap((e, i) => (e === "N" || e === "O" ? [i] : []));
    const there = polar(data.pocket).filter((i) => near.has(data.pocket.n ? data.pocket.n[i] : i));
    return polar(pose).flatMap((i) =>
      there
        .map((j) => [at(pose, i), at(data.pocket, j)])
        .filter(([a, b]) => apart(a, b) <= NARROW)
        .map(([a, b]) => ({ kind: "line", a, b, width: 1.5, dash: [4, 4], colour })),
    );
  };

  const boxParts = ({ center, size }, colour) => {
    const corner = (bits) => center.map((c, k) => c + (bits & (1 << k) ? 0.5 : -0.5) * size[k]);
    return [0, 1, 2, 3, 4, 5, 6, 7].flatMap((from) =>
      [1, 2, 4].filter((bit) => !(from & bit)).map((bit) =>
        ({ kind: "line", a: corner(from), b: corner(from | bit), width: 1, colour })));
  };

  // ---- the scene
  const view = moleculeView(canvas, (label) => {
    pointed.textContent = label || help;
  });

  const compose = (newLook) => {
    const ligand = data.ligands[state.ligand];
    const { rank, molecule: pose, pocket: values } = ligand.poses[state.pose];
    const carbon = carbons();
    const coloured = find("[name=colour]")?.value === "contribution" && ligand.limit !== null;
    const near = neighbours(pose, data.within);
    const told = coloured && pose.c;
    const colour = (i) => (told ? data.ramp[pose.k[i]] : byElement(pose.e[i], carbon.pose));
    const label = (i) => `${ligand.name} · ${pose.e[i]}${i + 1}${told ? `, contributes ${signed(pose.c[i])}` : ""}`;
    const parts = balls(pose, colour, { ball: 0.36, stick: 0.15 }, label);
    if (told) for (const part of parts) part.clear = true;
    if (option("crystal") && ligand.crystal) {
      const { crystal } = ligand;
      const own = (i) => byElement(crystal.e[i], carbon.crystal);
      parts.push(...balls(crystal, own, { ball: 0.09, stick: 0.09 }, (i) => `crystal pose · ${crystal.e[i]}${i + 1}`));
    }
    if (option("protein")) {
      parts.push(...residueParts(near, coloured && values, ligand.limit, carbon.pocket));
      parts.push(...backboneParts(carbon.backbone));
    }
    if (option("contacts")) parts.push(...contactParts(pose, near, scheme.matches ? "#f3bd63" : "#9a5b00"));
    if (option("box")) parts.push(...boxParts(data.box, carbon.pocket));
    const beside = [...near].filter(([, { gap }]) => gap <= BESIDE).sort((a, b) => a[1].gap - b[1].gap);
    const named = data.pocket.r ? beside.map(([n, { i }]) => [data.pocket.r[n], i]) : [];
    if (option("names")) {
      const ink = scheme.matches ? "#e8ebf1" : "#1b2333";
      for (const [text, i] of named) parts.push({ kind: "text", a: at(data.pocket, i), text, colour: ink });
    }
    view.show(parts, newLook);
    if (!newLook) view.follow(between(...[0, 1].map((side) => [0, 1, 2].map((k) => {
      const values = pose.x.filter((_, i) => i % 3 === k);
      return side ? Math.max(...values) : Math.min(...values);
    }))));

    const words = `Pose ${rank} of ${ligand.name}`;
    find("#shown").textContent = words;
    find("#beside").textContent = named.length
      ? `Within ${BESIDE} Å: ${named.map(([name]) => name).join(", ")}.`
      : "Nothing of the receptor is within 4 Å.";
    canvas.setAttribute("aria-label", `${words} in the pocket, in three dimensions, ${pose.e.length} atoms.`);
    const legend = find("#legend");
    if (legend) {
      legend.hidden = !coloured;
      if (coloured) [find("#low").textContent, find("#high").textContent] = [signed(-ligand.limit), signed(ligand.limit)];
    }
    const box = find("[name=crystal]");
    if (box) box.disabled = !ligand.crystal;
  };

  // ---- choosing
  const choose = (ligand, pose) => {
    const other = ligand !== state.ligand;
    Object.assign(state, { ligand, pose });
    for (const body of all("tbody[data-ligand]")) body.hidden = Number(body.dataset.ligand) !== ligand;
    for (const button of all("button[data-pose]")) {
      const chosen = Number(button.dataset.ligand) === ligand && Number(button.dataset.pose) === pose;
      button.setAttribute("aria-pressed", chosen);
      button.closest("tr").classList.toggle("chosen", chosen);
    }
    for (const button of all("button[data-choose]")) {
      const chosen = Number(button.dataset.choose) === ligand;
      button.setAttribute("aria-pressed", chosen);
      button.closest("tr").classList.toggle("chosen", chosen);
    }
    const chooser = find("#ligand");
    if (chooser) chooser.value = ligand;
    compose(other ? data.ligands[ligand].look : null);
  };

  const sort = (head) => {
    const heads = all("th", head.closest("tr"));
    const up = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") !== "ascending" : head.dataset.first !== "down";
    for (const h of heads) h.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const column = heads.indexOf(head);
    const value = (row) => row.cells[column].dataset.value;
    const order = (one, other) => {
      const [a, b] = [value(one), value(other)];
      if (a === "" || b === "") return (a === "") - (b === ""); // what is not known comes last
      const numeric = Number.isFinite(Number(a)) && Number.isFinite(Number(b));
      return (up ? 1 : -1) * (numeric ? a - b : a.localeCompare(b));
    };
    for (const body of all("tbody", head.closest("table"))) body.append(...[...body.rows].sort(order));
  };

  document.addEventListener("click", (event) => {
    const sorter = event.target.closest("button.sort");
    if (sorter) return sort(sorter.closest("th"));
    if (event.target.closest("summary")) return undefined;
    const button = event.target.closest("tr")?.querySelector("button[data-pose], button[data-choose]");
    if (button?.dataset.pose) choose(Number(button.dataset.ligand), Number(button.dataset.pose));
    else if (button) choose(Number(button.dataset.choose), 0);
    return undefined;
  });
  find("#ligand")?.addEventListener("change", (event) => choose(Number(event.target.value), 0));
  for (const control of all(".controls [name]")) control.addEventListener("change", () => compose(null));
  find("#reset").addEventListener("click", () => view.reset());
  find("#nearer").addEventListener("click", () => view.scale(1.25));
  find("#further").addEventListener("click", () => view.scale(0.8));
  scheme.addEventListener("change", () => compose(null));
  document.documentElement.classList.add("scripted");
  const first = state.ligand;
  state.ligand = -1;
  choose(first, 0);
})();
