// What the browser keeps between visits.

/** Decisions of one run in the browser's storage; where there is none, `works` is false and nothing is kept. */
class KeptDecisions {
  /** @param {string} run */
  constructor(run) {
    this.key = `labelfix-review:${run}`;
    this.works = true;
    /** As last read or written here. @type {string|null} */
    this.text = null;
    /** The same, by sample id. @type {Object<string, string>} */
    this.seen = {};
  }

  /**
   * What is stored by now, and on top of it what this tab has changed since it last read or wrote.
   * @param {Object<string, string>} mine decisions of this tab by sample id
   * @returns {Object<string, string>|null} null where nothing new is stored
   */
  news(mine) {
    const theirs = this.#read();
    if (!theirs) return null;
    const merged = { ...theirs };
    for (const id of Object.keys({ ...this.seen, ...mine })) {
      if (mine[id] === this.seen[id]) continue;
      if (mine[id] === undefined) delete merged[id];
      else merged[id] = mine[id];
    }
    this.seen = theirs;
    return merged;
  }

  /** @param {Object<string, string>} decisions with all `news` in them */
  save(decisions) {
    const text = JSON.stringify(decisions);
    try {
      localStorage.setItem(this.key, text);
      this.works = true;
      Object.assign(this, { text, seen: decisions });
    } catch {
      this.works = false;
    }
  }

  /**
   * Call back when another tab may have stored decisions: the browser says so, or this tab has been away.
   * @param {() => void} changed
   */
  watch(changed) {
    window.addEventListener('storage', (event) => event.key === this.key && changed());
    window.addEventListener('pageshow', (event) => event.persisted && changed());
    document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && changed());
  }

  /** @returns {Object<string, string>|null} null where the text is the one that is known, or none */
  #read() {
    let text;
    try {
      text = localStorage.getItem(this.key);
    } catch {
      this.works = false;
      return null;
    }
    // Nobody's decision empties the storage: what this tab knows stays, and is written with the next one.
    if (text === null || text === this.text) return null;
    this.text = text;
    try {
      const stored = JSON.parse(text);
      return stored !== null && typeof stored === 'object' ? stored : null;
    } catch {
      // A text that is no JSON is written over with the next decision.
      return null;
    }
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
