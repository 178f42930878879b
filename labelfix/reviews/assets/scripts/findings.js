// What is to be seen of samples beside their labels: copies, leaks, outliers, bad images, cells of a table.

/** What may be worth a look beside a label, by the value of its filter. */
const FINDINGS = {
  copies: { name: 'Copies with two labels', has: (sample) => sample.two_labels },
  leaks: { name: 'Copies across a split', has: (sample) => sample.leak },
  outliers: { name: 'Outliers', has: (sample) => sample.odd },
  issues: { name: 'Bad images', has: (sample) => sample.issue !== null },
};

/** In a few words what is to be seen of a sample beside its label, '' for nothing. @param {Sample} sample */
function markOf(sample) {
  const copies = sample.leak ? 'leaking copy' : sample.two_labels ? 'copy, two labels' : 'copy';
  const marks = [
    sample.group === null ? '' : `${copies} #${sample.group}`,
    sample.odd ? 'outlier' : '',
    sample.issue ?? '',
  ];
  return marks.filter(Boolean).join(' · ');
}

/** A cell of a table without images. @param {[string, string]} column */
function columnLine([name, text]) {
  return element(
    'span',
    { className: 'column' },
    element('strong', { textContent: name }),
    element('span', { textContent: text }),
  );
}

/**
 * The samples that filters leave; copies stand side by side where they are what is looked for.
 * @param {Sample[]} all
 * @param {Sample[]} ordered as the reader asked for
 * @param {Filters} filters
 * @param {Map<number, string>} made decisions by sample id
 */
function viewOf(all, ordered, filters, made) {
  const samples = ['copies', 'leaks'].includes(filters.finding) ? sorted(all, 'copies') : ordered;
  return samples.filter((sample) => passes(sample, filters, made.get(sample.id)));
}

/** How many others a decision was made of too. @param {any[]} changes */
function andCopies(changes) {
  return changes.length > 1 ? ` and ${counted(changes.length - 1, 'copy', 'copies')}` : '';
}
