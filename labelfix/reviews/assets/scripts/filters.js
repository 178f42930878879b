// The form beside the grid.

const MOST_PAIRS = 300;

/** Reads the filters from their form, and shows how many samples each state has. */
class FilterForm {
  /** @param {Samples} samples @param {() => void} changed */
  constructor(samples, changed) {
    this.samples = samples;
    this.changed = changed;
    this.form = byId('filters');
    this.range = new ScoreRange(samples.all, changed);
    this.#classOptions();
    this.#pairOptions();
    this.#findingOptions();
    byId('finding-filter').addEventListener('change', changed);
    this.form.addEventListener('submit', (event) => event.preventDefault());
    byId('search').addEventListener('input', changed);
    byId('pair-filter').addEventListener('change', changed);
    byId('class-filter').addEventListener('change', () => {
      this.#pairOptions();
      changed();
    });
    this.form
      .querySelectorAll('[name="state"]')
      .forEach((choice) => choice.addEventListener('change', changed));
    byId('reset-filters').addEventListener('click', () => this.reset());
    byId('empty-reset').addEventListener('click', () => this.reset());
    byId('filters-toggle').addEventListener('click', () => this.#toggle());
  }

  /** @returns {Filters} */
  get value() {
    const [low, high] = this.range.value;
    return {
      text: byId('search').value.trim(),
      state: this.form.elements.namedItem('state').value,
      label: byId('class-filter').value,
      pair: byId('pair-filter').value,
      finding: byId('finding-filter').value,
      low,
      high,
    };
  }

  reset() {
    this.clear();
    this.changed();
  }

  /** Let everything through, without saying so. */
  clear() {
    this.form.reset();
    this.range.reset();
    this.#pairOptions();
  }

  /** @param {Object<string, number>} tallies by state @param {number} active filters */
  show(tallies, active) {
    for (const [state, count] of Object.entries(tallies)) {
      const tally = byId(`tally-${state}`);
      if (tally) tally.textContent = grouped(count);
    }
    byId('reset-filters').disabled = !active;
    byId('filters-toggle').querySelector('span').textContent = active ? `Filters (${active})` : 'Filters';
  }

  #toggle() {
    const open = this.form.classList.toggle('open');
    byId('filters-toggle').setAttribute('aria-expanded', String(open));
  }

  #classOptions() {
    const counts = new Map();
    for (const sample of this.samples.all)
      for (const label of classesOf(sample)) counts.set(label, (counts.get(label) || 0) + 1);
    const labels = [...counts.keys()].sort((a, b) => a - b);
    byId('class-filter').append(
      ...labels.map((label) => this.#option(String(label), this.samples.names[label], counts.get(label))),
    );
  }

  /** Only what there is on this page; no filter where there is nothing. */
  #findingOptions() {
    const counts = Object.entries(FINDINGS).map(([value, { name, has }]) => {
      return { value, name, count: this.samples.all.filter(has).length };
    });
    const there = counts.filter(({ count }) => count);
    byId('finding-field').hidden = !there.length;
    byId('finding-filter').append(...there.map(({ value, name, count }) => this.#option(value, name, count)));
  }

  /** Pairs of the chosen class, the most frequent first. */
  #pairOptions() {
    const select = byId('pair-filter');
    const label = byId('class-filter').value;
    const isAbout = (sample) => !label || classesOf(sample).includes(Number(label));
    const examples = new Map();
    const about = this.samples.all.filter(isAbout);
    for (const sample of about) examples.set(sample.pair, sample);
    const counts = [...pairCounts(about)].sort((a, b) => b[1] - a[1]);
    const options = counts.slice(0, MOST_PAIRS).map(([pair, count]) => {
      return this.#option(pair, this.samples.changeOf(examples.get(pair)), count);
    });
    const chosen = select.value;
    select.replaceChildren(select.options[0], ...options);
    if (counts.length > MOST_PAIRS) {
      const text = `${counted(counts.length - MOST_PAIRS, 'rarer one')}: choose a class first`;
      select.append(element('option', { disabled: true, textContent: text }));
    }
    select.value = options.some((option) => option.value === chosen) ? chosen : '';
  }

  #option(value, name, count) {
    return element('option', { value, textContent: `${name} (${grouped(count)})` });
  }
}
