// What the browser keeps between visits.

/** Decisions of one run in the browser's storage; where there is none, `works` is false and nothing is kept. */
class KeptDecisions {
  /** @param {string} run */
  constructor(run) {
    this.key = `labelfix-review:${run}`;
    this.works = true;
  }

  /** @returns {Object<string, string>} decisions by sample id */
  load() {
    try {
      const stored = JSON.parse(localStorage.getItem(this.key) ?? '{}');
      return stored !== null && typeof stored === 'object' ? stored : {};
    } catch (error) {
      // Storage forbidden; a text that is no JSON is written over with the next decision.
      this.works = error instanceof SyntaxError;
      return {};
    }
  }

  /** @param {Object<string, string>} decisions @returns {boolean} whether they are kept */
  save(decisions) {
    try {
      localStorage.setItem(this.key, JSON.stringify(decisions));
      this.works = true;
    } catch {
      this.works = false;
    }
    return this.works;
  }

  /** Call back when another tab with the same run has stored decisions. @param {() => void} changed */
  watch(changed) {
    window.addEventListener('storage', (event) => {
      if (event.key === this.key) changed();
    });
  }
}

/** A choice of the reader for all pages, if the browser keeps any. @param {string} name */
function preference(name) {
  try {
    return localStorage.getItem(`labelfix-review-${name}`);
  } catch {
    return null;
  }
}

/** @param {string} name @param {string} value */
function prefer(name, value) {
  try {
    localStorage.setItem(`labelfix-review-${name}`, value);
  } catch {
    // The choice holds for this visit.
  }
}
