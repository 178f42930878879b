// Which samples are shown, and in which order: pure functions of the samples, the filters and the decisions.

/**
 * @typedef {object} Filters
 * @property {string} text part of the file name, without blanks around it
 * @property {string} state all, undecided, decided, accept, keep, change, partly, remove or skip
 * @property {string} label class number, given or suggested; '' for all
 * @property {string} pair key; '' for all
 * @property {string} finding of `FINDINGS`; '' for all
 * @property {number} low lowest noise score
 * @property {number} high highest noise score
 */

/** @returns {Filters} that let everything through */
function noFilters() {
  return { text: '', state: 'all', label: '', pair: '', finding: '', low: 0, high: 1 };
}

/** @param {Filters} filters @returns {number} how many of them narrow the view */
function activeFilters(filters) {
  const open = noFilters();
  return Object.keys(open).filter((name) => filters[name] !== open[name]).length;
}

/**
 * @param {Sample} sample
 * @param {Filters} filters
 * @param {string|undefined} decision
 */
function passes(sample, filters, decision) {
  if (!hasState(decision, filters.state)) return false;
  if (filters.pair && sample.pair !== filters.pair) return false;
  if (filters.finding && !FINDINGS[filters.finding].has(sample)) return false;
  if (filters.label && !classesOf(sample).includes(Number(filters.label))) return false;
  if (filters.low > 0 || filters.high < 1) {
    if (sample.score === null || sample.score < filters.low || sample.score > filters.high) return false;
  }
  return sample.search.includes(filters.text.toLowerCase());
}

/** @param {string|undefined} decision @param {string} state */
function hasState(decision, state) {
  if (state === 'all') return true;
  if (state === 'undecided') return !isDone(decision);
  if (state === 'decided') return isDone(decision);
  return decision !== undefined && kindOf(decision) === state;
}

/** How often each pair occurs; rows without a change have none. @param {Sample[]} samples @returns {Map<string, number>} */
function pairCounts(samples) {
  const counts = new Map();
  for (const { pair } of samples) if (pair) counts.set(pair, (counts.get(pair) || 0) + 1);
  return counts;
}

const byScore = (a, b) => (b.score ?? -1) - (a.score ?? -1) || a.id - b.id;

/** Samples in the order that a reader asked for. @param {Sample[]} samples @param {string} order */
function sorted(samples, order) {
  const counts = order === 'confusion' ? pairCounts(samples) : new Map();
  const firstClass = (sample) => [sample.given].flat()[0] ?? Infinity;
  const orders = {
    score: byScore,
    'score-low': (a, b) => (a.score ?? 2) - (b.score ?? 2) || a.id - b.id,
    class: (a, b) => firstClass(a) - firstClass(b) || byScore(a, b),
    confusion: (a, b) =>
      (counts.get(b.pair) ?? 0) - (counts.get(a.pair) ?? 0) ||
      (a.pair < b.pair ? -1 : Number(a.pair > b.pair)) ||
      byScore(a, b),
    copies: (a, b) => (a.group ?? Infinity) - (b.group ?? Infinity) || a.id - b.id,
    id: (a, b) => a.id - b.id,
  };
  return [...samples].sort(orders[order]);
}

/**
 * The next undecided sample after a place, from the start again where none follows.
 * @param {Sample[]} view
 * @param {number} place
 * @param {Map<number, string>} made decisions by sample id
 * @returns {number} place in the view, -1 where all is decided
 */
function nextUndecided(view, place, made) {
  for (let step = 1; step <= view.length; step += 1) {
    const candidate = (place + step) % view.length;
    if (!isDone(made.get(view[candidate].id))) return candidate;
  }
  return -1;
}
