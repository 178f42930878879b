// Decisions and their history. A decision is a text: "accept", "keep", "remove", "skip" or "change:CLASS"; of rows with
// several labels see changes.js.

/** What is decided, with undo and redo without limit; no element of the page, no storage. */
class Decisions {
  /** @param {Samples} samples */
  constructor(samples) {
    this.samples = samples;
    /** @type {Map<number, string>} by sample id */
    this.made = new Map();
    /** Decisions of rows that are not on this page: kept for the page that has them. @type {Object<string, string>} */
    this.ofOtherRows = {};
    /** Steps: each a list of [id, before, after]. @type {[number, string|undefined, string|undefined][][]} */
    this.done = [];
    this.undone = [];
  }

  /**
   * Take over what was stored; what does not fit its sample is dropped. Where somebody else has decided otherwise
   * about a sample, that stands: it leaves the history, so that no undo here takes it away.
   * @param {Object<string, any>} stored
   */
  restore(stored) {
    const before = new Map(this.made);
    this.made.clear();
    this.ofOtherRows = {};
    for (const [id, decision] of Object.entries(stored)) {
      const sample = this.samples.byId.get(Number(id));
      if (!sample) this.ofOtherRows[id] = decision;
      else if (this.allows(sample, decision)) this.made.set(sample.id, decision);
    }
    const isOurs = ([id]) => before.get(id) === this.made.get(id);
    const ours = (steps) => steps.map((step) => step.filter(isOurs)).filter((step) => step.length);
    this.done = ours(this.done);
    this.undone = ours(this.undone);
  }

  /** @returns {Object<string, string>} what `restore` reads */
  stored() {
    return { ...this.ofOtherRows, ...Object.fromEntries(this.made) };
  }

  /** Whether a decision is possible for a sample. @param {Sample} sample @param {string} decision */
  allows(sample, decision) {
    if (decision === 'keep') return sample.given !== null;
    if (decision === 'accept') return this.samples.hasChange(sample);
    if (decision === 'skip' || decision === 'remove') return true;
    if (this.samples.isMulti) return isOfClasses(sample, decision, this.samples.names.length);
    if (!/^change:\d+$/.test(decision)) return false;
    return Number(decision.slice(7)) < this.samples.names.length;
  }

  /** What choosing a class means: accept and keep where it is theirs. @param {Sample} sample @param {number} label */
  choosing(sample, label) {
    if (label === sample.given) return 'keep';
    return label === sample.suggested ? 'accept' : `change:${label}`;
  }

  /**
   * The same decision about a sample and its copies, which have one true label.
   * @param {Sample} sample
   * @param {string|undefined} decision undefined takes it away
   * @returns {[number, string|undefined][]} what `apply` takes
   */
  ofCopies(sample, decision) {
    const names = decision !== undefined && ['accept', 'keep', 'change'].includes(kindOf(decision));
    const label = names ? this.labelOf(sample, decision) : null;
    const same = (other) => (other === sample || !names ? decision : this.choosing(other, label));
    return this.samples.copiesOf(sample).map((other) => [other.id, same(other)]);
  }

  /**
   * Where no change is suggested, to accept is to keep; where some of several changes are decided on, both are about
   * the rest.
   * @param {Sample} sample
   * @param {string|undefined} decision
   */
  meant(sample, decision) {
    if (this.samples.isMulti && (decision === 'accept' || decision === 'keep'))
      return completed(sample, this.made.get(sample.id), decision);
    return decision === 'accept' && !this.samples.hasChange(sample) ? 'keep' : decision;
  }

  /** Whether nothing of a sample is open any more. @param {Sample} sample */
  isDone(sample) {
    return isDone(this.made.get(sample.id));
  }

  /**
   * Make decisions; one step of the history, whatever their number.
   * @param {[number, string|undefined][]} changes of sample ids; undefined takes a decision away
   * @returns {number} how many were new
   */
  apply(changes) {
    const step = changes
      .map(([id, after]) => /** @type {any} */ ([id, this.made.get(id), after]))
      .filter(([, before, after]) => before !== after);
    if (!step.length) return 0;
    step.forEach(([id, , after]) => this.#set(id, after));
    this.done.push(step);
    this.undone = [];
    return step.length;
  }

  /** @returns {number[]|null} the samples whose decision went back, null where there is nothing to undo */
  undo() {
    const step = this.done.pop();
    if (!step) return null;
    step.forEach(([id, before]) => this.#set(id, before));
    this.undone.push(step);
    return step.map(([id]) => id);
  }

  /** @returns {number[]|null} as `undo`, the other way */
  redo() {
    const step = this.undone.pop();
    if (!step) return null;
    step.forEach(([id, , after]) => this.#set(id, after));
    this.done.push(step);
    return step.map(([id]) => id);
  }

  /** The label that a decision gives a sample, null for skip and remove. @param {Sample} sample @param {string} decision */
  labelOf(sample, decision) {
    if (decision === 'accept') return sample.suggested;
    if (decision === 'keep') return sample.given;
    if (this.samples.isMulti && /^(change|partly)/.test(decision)) return labelsBy(sample, decision);
    return decision.startsWith('change') ? Number(decision.slice(7)) : null;
  }

  /** @returns {Object<string, number>} samples by state: all, decided, undecided, accept, keep, change, partly, remove, skip */
  tallies() {
    const tallies = { all: this.samples.all.length, accept: 0, keep: 0, change: 0, partly: 0, remove: 0, skip: 0 };
    for (const decision of this.made.values()) tallies[kindOf(decision)] += 1;
    const decided = this.made.size - tallies.partly;
    return { ...tallies, decided, undecided: tallies.all - decided };
  }

  #set(id, decision) {
    if (decision === undefined) this.made.delete(id);
    else this.made.set(id, decision);
  }
}

/** "change" of "change:3", and so on. @param {string} decision */
function kindOf(decision) {
  return decision.split(':')[0];
}
