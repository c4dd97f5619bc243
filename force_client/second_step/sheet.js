"use strict";
(() => {
  const sections = [...document.querySelectorAll("section[data-label]")];
  const by = (id) => document.getElementById(id);
  const probe = by("probe");
  const state = new Map(sections.map((one) => [one.dataset.label, { ms: 0, looked: false }]));
  let current = 0;
  let since = null;
  let saved = true;

  for (const image of document.querySelectorAll("img[data-probe]")) image.src = probe.src;

  // Time runs while a candidate is on view and the page is visible, on a clock that only rises.
  const stop = () => {
    if (since === null) return;
    state.get(sections[current].dataset.label).ms += performance.now() - since;
    since = null;
  };
  const start = () => {
    if (document.hidden) return;
    since = performance.now();
    look();
  };
  const drawn = (image) => image !== null && image.complete && image.naturalWidth > 0;
  const look = () => {
    const section = sections[current];
    const both = drawn(section.querySelector("img[data-probe]"))
      && drawn(section.querySelector("img[data-image]"));
    if (both && since !== null) state.get(section.dataset.label).looked = true;
  };
  for (const image of document.querySelectorAll("section img")) image.addEventListener("load", look);
  document.addEventListener("visibilitychange", () => (document.hidden ? stop() : start()));
  window.addEventListener("pagehide", stop);

  const finding = (section) => {
    const chosen = section.querySelector("input[type=radio]:checked");
    const field = (name) => section.querySelector(`[data-field=${name}]`).value.trim();
    const kept = state.get(section.dataset.label);
    return {
      label: section.dataset.label,
      opinion: chosen === null ? null : chosen.value,
      reasons: field("reasons"),
      disconfirming: field("disconfirming"),
      seconds: Math.min(Math.floor(kept.ms / 1000), 86400),
      looked: kept.looked,
    };
  };
  const done = (section) => {
    const made = finding(section);
    return made.opinion !== null && made.reasons !== "";
  };

  const show = (place, focus) => {
    if (place < 0 || place >= sections.length) return;
    stop();
    current = place;
    sections.forEach((one, index) => { one.hidden = index !== current; });
    by("previous").disabled = current === 0;
    by("next").disabled = current === sections.length - 1;
    for (const button of document.querySelectorAll("[data-go]")) {
      if (button.dataset.go === sections[current].dataset.label) {
        button.setAttribute("aria-current", "step");
      } else {
        button.removeAttribute("aria-current");
      }
    }
    frames().forEach((one) => one.scrollTo(
      (one.scrollWidth - one.clientWidth) / 2, (one.scrollHeight - one.clientHeight) / 2,
    ));
    if (focus) sections[current].querySelector("h2").focus({ preventScroll: true });
    window.scrollTo(0, 0);
    start();
  };

  const tell = () => {
    let open = 0;
    sections.forEach((section) => {
      const label = section.dataset.label;
      const ready = done(section);
      const button = document.querySelector(`[data-go="${label}"]`);
      button.classList.toggle("done", ready);
      button.setAttribute("aria-label", `Candidate ${label}, ${ready ? "done" : "to do"}`);
      if (!ready) open += 1;
    });
    const words = open === 0 ? "Every candidate has a finding." : `${open} still to do.`;
    if (by("state").textContent !== words) by("state").textContent = words;
    by("save").disabled = open > 0;
  };

  const save = () => {
    stop();
    const findings = {
      v: 1,
      review_id: document.body.dataset.review,
      search_id: document.body.dataset.search,
      findings: sections.map(finding),
    };
    const text = JSON.stringify(findings, null, 2) + "\n";
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
    link.download = `findings-${findings.review_id}.json`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    saved = true;
    by("state").textContent = "Saved. Submit the file with “probegate review submit”.";
    start();
  };

  // What is in the middle of a frame stays there.
  const frames = () => [...sections[current].querySelectorAll(".frame")];
  const zoom = (value) => {
    const slider = by("zoom");
    const middles = frames().map((one) => [
      (one.scrollLeft + one.clientWidth / 2) / one.scrollWidth,
      (one.scrollTop + one.clientHeight / 2) / one.scrollHeight,
    ]);
    slider.value = value;
    document.body.style.setProperty("--zoom", slider.value / 100);
    by("zoomed").textContent = `${slider.value}%`;
    frames().forEach((one, index) => one.scrollTo(
      middles[index][0] * one.scrollWidth - one.clientWidth / 2,
      middles[index][1] * one.scrollHeight - one.clientHeight / 2,
    ));
  };

  // Both images of a pair move together.
  for (const pair of document.querySelectorAll(".pair")) {
    const pairs = [...pair.querySelectorAll(".frame")];
    let leader = null;
    for (const frame of pairs) {
      const other = pairs.find((one) => one !== frame);
      frame.addEventListener("scroll", () => {
        if (leader === other) { leader = null; return; }
        leader = frame;
        const share = (part, whole) => (whole > 0 ? part / whole : 0);
        const x = share(frame.scrollLeft, frame.scrollWidth - frame.clientWidth);
        const y = share(frame.scrollTop, frame.scrollHeight - frame.clientHeight);
        const left = Math.round(x * (other.scrollWidth - other.clientWidth));
        const top = Math.round(y * (other.scrollHeight - other.clientHeight));
        if (other.scrollLeft === left && other.scrollTop === top) { leader = null; return; }
        other.scrollTo(left, top);
      });
      frame.addEventListener("pointerdown", (event) => {
        event.preventDefault();
        frame.setPointerCapture(event.pointerId);
        const from = [event.clientX + frame.scrollLeft, event.clientY + frame.scrollTop];
        const move = (moved) => frame.scrollTo(from[0] - moved.clientX, from[1] - moved.clientY);
        frame.addEventListener("pointermove", move);
        frame.addEventListener("pointerup", () => frame.removeEventListener("pointermove", move),
          { once: true });
      });
    }
  }

  const typing = (target) => target.matches("textarea, input[type=range]");
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || typing(event.target)) return;
    const radios = sections[current].querySelectorAll("input[type=radio]");
    if (["1", "2", "3"].includes(event.key)) {
      const radio = radios[Number(event.key) - 1];
      if (!radio.disabled) { radio.checked = true; radio.focus(); changed(); }
    } else if (event.key === "ArrowRight" && !event.target.matches("input")) {
      show(current + 1, true);
    } else if (event.key === "ArrowLeft" && !event.target.matches("input")) {
      show(current - 1, true);
    } else if (event.key === "+" || event.key === "-") {
      zoom(Number(by("zoom").value) + (event.key === "+" ? 25 : -25));
    } else {
      return;
    }
    event.preventDefault();
  });
  const changed = () => { saved = false; tell(); };
  document.addEventListener("input", (event) => {
    if (event.target.id === "zoom") zoom(event.target.value); else changed();
  });
  for (const button of document.querySelectorAll("[data-go]")) {
    const place = sections.findIndex((one) => one.dataset.label === button.dataset.go);
    button.addEventListener("click", () => show(place, true));
  }
  by("previous").addEventListener("click", () => show(current - 1, true));
  by("next").addEventListener("click", () => show(current + 1, true));
  by("save").addEventListener("click", save);
  window.addEventListener("beforeunload", (event) => { if (!saved) event.preventDefault(); });
  // A page that the browser brings back with its fields must not begin with stale marks.
  tell();
  show(0, false);
})();
