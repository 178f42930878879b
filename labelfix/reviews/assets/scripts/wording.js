// Numbers, samples and decisions in words.

/** What became of a sample, by kind of decision. */
const DONE = {
  accept: 'Accepted',
  keep: 'Kept',
  change: 'Changed',
  partly: 'Partly decided',
  remove: 'Removed',
  skip: 'Skipped',
};

/** @param {number} count @param {string} one @param {string} [many] as in "1 sample", "1,200 samples" */
function counted(count, one, many = `${one}s`) {
  return `${grouped(count)} ${count === 1 ? one : many}`;
}

/** @param {number} count as in "1,200" */
function grouped(count) {
  return count.toLocaleString('en');
}

/** A share as people read it: "83 %", "<1 %". @param {number|null} share */
function percent(share) {
  if (share === null) return '–';
  const hundredths = Math.round(100 * share);
  return hundredths === 0 && share > 0 ? '<1 %' : `${hundredths} %`;
}

/** A score with two decimals, or a dash where there is none. @param {number|null} score */
function twoDecimals(score) {
  return score === null ? '–' : score.toFixed(2);
}

/** "Changed to dog", "Accepted dog", "Skipped". @param {Decisions} decisions @param {Sample} sample */
function decided(decisions, sample) {
  const decision = decisions.made.get(sample.id);
  if (!decision) return 'Undecided';
  const kind = kindOf(decision);
  if (kind === 'skip' || kind === 'remove') return DONE[kind];
  if (kind === 'partly') return `${DONE[kind]}: ${changesInWords(decisions.samples, sample, decision)}`;
  const label = decisions.samples.nameOf(decisions.labelOf(sample, decision));
  return `${DONE[kind]}${kind === 'change' ? ' to' : ''} ${label}`;
}

/** All that a card shows, in one sentence. @param {Decisions} decisions @param {Sample} sample */
function spoken(decisions, sample) {
  const { samples } = decisions;
  const suggested = samples.hasChange(sample)
    ? `suggested ${samples.nameOf(sample.suggested)}`
    : samples.changeOf(sample);
  const change = samples.isMulti ? `change ${samples.changeOf(sample)}` : suggested;
  const facts = [
    `given ${samples.nameOf(sample.given)}`,
    change,
    sample.score === null ? 'no noise score' : `noise score ${twoDecimals(sample.score)}`,
    sample.confidence === null ? 'no confidence' : `confidence ${percent(sample.confidence)}`,
    ...(markOf(sample) ? [markOf(sample)] : []),
    sample.file,
    `sample ${sample.id}`,
  ];
  return `${decided(decisions, sample)}: ${facts.join(', ')}`;
}

/** What is still to do. @param {Decisions} decisions */
function whatIsLeft(decisions) {
  const left = decisions.tallies().undecided;
  return left ? `${grouped(left)} left` : 'All samples are decided';
}
