// Rows with several labels: every suggested change is accepted or refused on its own, and other labels can be given.
//
// Such a decision is "change:+3-0": the row has class 3 and lacks class 0, says the reader. It is "partly:+3" while
// suggested changes are open. Where all of them are accepted, or refused, and nothing else is said, it is "accept" or
// "keep", as of rows with one label.

/** @typedef {Map<number, boolean>} States whether a row has a class, of the classes that a reader has spoken of */

/** Whether nothing of a row is open any more. @param {string|undefined} decision */
function isDone(decision) {
  return decision !== undefined && !decision.startsWith('partly');
}

/** The classes that are suggested to be other than given, and whether the row is to have them. @param {Sample} sample @returns {States} */
function suggestedStates(sample) {
  const pairs = (labels, has) => labels.map((label) => /** @type {[number, boolean]} */ ([label, has]));
  return new Map([...pairs(sample.added, true), ...pairs(sample.removed, false)]);
}

/** What a decision says of single classes. @param {Sample} sample @param {string|undefined} decision @returns {States} */
function statesOf(sample, decision) {
  if (decision === 'accept') return suggestedStates(sample);
  if (decision === 'keep') return new Map([...suggestedStates(sample)].map(([label, has]) => [label, !has]));
  const parts = /^(?:change|partly):(.*)$/.exec(decision ?? '')?.[1].match(/[+-]\d+/g) ?? [];
  return new Map(parts.map((part) => [Number(part.slice(1)), part.startsWith('+')]));
}

/** The decision that says this of single classes, undefined for nothing. @param {Sample} sample @param {States} states */
function decisionOf(sample, states) {
  const suggested = suggestedStates(sample);
  const said = [...states].filter(([label, has]) => suggested.has(label) || has !== hasGiven(sample, label));
  if (!said.length) return undefined;
  const about = said.filter(([label]) => suggested.has(label));
  const accepted = about.filter(([label, has]) => has === suggested.get(label)).length;
  const isPlain = about.length === suggested.size && said.length === about.length;
  if (isPlain && accepted === about.length) return 'accept';
  if (isPlain && !accepted) return 'keep';
  const parts = said.sort((a, b) => a[0] - b[0]).map(([label, has]) => `${has ? '+' : '-'}${label}`);
  return `${about.length === suggested.size ? 'change' : 'partly'}:${parts.join('')}`;
}

/** The row's labels by a decision; what is open is as the method has it. @param {Sample} sample @param {string|undefined} decision @returns {number[]} */
function labelsBy(sample, decision) {
  const labels = new Set(/** @type {number[]} */ (sample.corrected));
  for (const [label, has] of statesOf(sample, decision))
    if (has) labels.add(label);
    else labels.delete(label);
  return [...labels].sort((a, b) => a - b);
}

/**
 * All that is suggested or said of single classes, suggested changes first: in this order they have the keys 1 to 9, 0.
 * @param {Sample} sample
 * @param {string|undefined} decision
 * @returns {{label: number, adds: boolean, isOwn: boolean, state: string}[]} state: open, accepted or refused
 */
function changesOf(sample, decision) {
  const suggested = suggestedStates(sample);
  const states = statesOf(sample, decision);
  const asked = [...suggested].map(([label, adds]) => {
    const state = !states.has(label) ? 'open' : states.get(label) === adds ? 'accepted' : 'refused';
    return { label, adds, isOwn: false, state };
  });
  const own = [...states].filter(([label]) => !suggested.has(label));
  return [...asked, ...own.map(([label, adds]) => ({ label, adds, isOwn: true, state: 'accepted' }))];
}

/**
 * The decision with one suggested change on: from open to accepted, refused, and open again.
 * @param {Sample} sample
 * @param {string|undefined} decision
 * @param {number} label of the change
 * @param {string} [wanted] accepted or refused; open where it is that already
 */
function marked(sample, decision, label, wanted) {
  const states = statesOf(sample, decision);
  const { adds, state } = changesOf(sample, decision).find((change) => change.label === label);
  const next = { open: 'accepted', accepted: 'refused', refused: 'open' }[state];
  const after = wanted === undefined ? next : state === wanted ? 'open' : wanted;
  if (after === 'open') states.delete(label);
  else states.set(label, (after === 'accepted') === adds);
  return decisionOf(sample, states);
}

/** The decision with one label given or taken, be it suggested or not. @param {Sample} sample @param {string|undefined} decision @param {number} label */
function toggled(sample, decision, label) {
  const has = labelsBy(sample, decision).includes(label);
  return decisionOf(sample, statesOf(sample, decision).set(label, !has));
}

/** What accepting or keeping means: the rest of what is partly decided; where nothing is suggested both are to keep. @param {Sample} sample @param {string|undefined} decision @param {string} rest accept or keep */
function completed(sample, decision, rest) {
  if (!suggestedStates(sample).size) return 'keep';
  if (decision === undefined || isDone(decision)) return rest;
  return decisionOf(sample, new Map([...statesOf(sample, rest), ...statesOf(sample, decision)]));
}

/** Whether a text is a decision on single classes of a sample. @param {Sample} sample @param {string} decision @param {number} count of classes */
function isOfClasses(sample, decision, count) {
  const states = statesOf(sample, decision);
  return [...states.keys()].every((label) => label < count) && decisionOf(sample, states) === decision;
}

/** The decision that these labels are, where of some suggested changes nothing is said. @param {Sample} sample @param {number[]} labels @param {number[]} open */
function decisionBy(sample, labels, open) {
  const about = [...suggestedStates(sample).keys(), .../** @type {number[]} */ (sample.given), ...labels];
  const said = about.filter((label) => !open.includes(label));
  return decisionOf(sample, new Map(said.map((label) => [label, labels.includes(label)])));
}

/** @param {Sample} sample @param {number} label */
function hasGiven(sample, label) {
  return /** @type {number[]} */ (sample.given).includes(label);
}

/** "+ dog" or "− cat". @param {Samples} samples @param {{label: number, adds: boolean}} change */
function signed(samples, { label, adds }) {
  return `${adds ? '+' : '−'} ${samples.names[label]}`;
}
