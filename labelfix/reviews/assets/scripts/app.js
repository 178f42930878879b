// The page comes to life: the parts above, joined.

/** Everything a reader can do; the keyboard and the buttons call the same functions, which return true when done. */
class Review {
  /** @param {any} data what the page carries */
  constructor(data) {
    this.samples = new Samples(data);
    this.decisions = new Decisions(this.samples);
    this.kept = new KeptDecisions(data.run.id);
    this.thumbs = new Thumbs(Number(byId('review').dataset.block));
    this.cards = new Cards(this.samples, this.decisions, this.thumbs);
    this.grid = new Grid(byId('grid'), this.cards, (sample) => this.openViewer(sample));
    this.quick = new QuickActions(
      this.grid.root,
      (card) => this.samples.byId.get(Number(card.dataset.id)),
      (sample, decision) => this.decide(sample, decision),
    );
    this.form = new FilterForm(this.samples, () => this.showFromStart());
    const { samples, decisions, thumbs } = this;
    this.viewer = new Viewer(
      { samples, decisions, thumbs },
      {
        decide: (decision) => this.decideActive(decision),
        choose: (label) => this.choose(label),
        undo: () => this.undo(),
        step: (step) => this.move(step > 0 ? 'j' : 'k', this.grid.root),
        closed: () => this.#viewerClosed(),
      },
    );
    this.announcer = new Announcer(
      () => this.viewer.isOpen,
      () => this.undo(),
    );
    this.bulk = new BulkDialog(this.decisions, (changes, text) => this.#applyMany(changes, text));
    this.clear = new ClearDialog(this.decisions, (changes, text) => this.#applyMany(changes, text));
    this.help = new HelpDialog();
    byId('sort').value = data.run.sort ?? 'score';
    this.ordered = sorted(this.samples.all, byId('sort').value);
    this.#restore();
    this.#wire();
    this.showView(undefined, 0);
    this.#followHash();
  }

  /* What is shown */

  /** Filter and sort anew, from the first sample on. */
  showFromStart() {
    window.scrollTo(0, 0);
    this.showView(undefined, 0);
  }

  /**
   * Filter and sort anew.
   * @param {number|undefined} id of the sample to stay at
   * @param {number} otherwise place to go to where that is not shown any more
   */
  showView(id, otherwise) {
    const filters = this.form.value;
    const view = this.ordered.filter((sample) => passes(sample, filters, this.decisions.made.get(sample.id)));
    const place = view.findIndex((sample) => sample.id === id);
    this.grid.show(view, place < 0 ? otherwise : place);
    showCount(view.length, this.samples.all.length);
    this.#tallies();
  }

  openViewer(sample = this.grid.active) {
    if (!sample) return false;
    byId('toast').hidden = true;
    this.viewer.show(sample, `${this.grid.place + 1} of ${grouped(this.grid.view.length)}`);
    history.replaceState(null, '', `#sample=${sample.id}`);
    return true;
  }

  toggleViewer() {
    if (!this.viewer.isOpen) return this.openViewer();
    this.viewer.dialog.close();
    return true;
  }

  /** @param {string} key @param {any} target @returns {boolean} */
  move(key, target) {
    if (this.viewer.isOpen) {
      const steps = { ArrowLeft: 'k', ArrowRight: 'j', j: 'j', k: 'k', Home: 'Home', End: 'End' };
      if (!(key in steps)) return false;
      this.grid.key(steps[key]);
      return this.openViewer();
    }
    // Outside of the grid, the keys that scroll the page do that.
    return (target.closest('#grid') || /^(Arrow.*|[jk])$/.test(key)) && this.grid.key(key);
  }

  toNextUndecided() {
    const place = nextUndecided(this.grid.view, this.grid.place, this.decisions.made);
    if (place < 0) this.announcer.say('Everything in this view is decided');
    else this.#goTo(place);
    return true;
  }

  /* What is decided */

  /** @param {string|undefined} decision */
  decideActive(decision) {
    if (this.grid.active) this.decide(this.grid.active, decision);
    return true;
  }

  /** @param {number} label */
  choose(label) {
    return this.decideActive(this.decisions.choosing(this.grid.active, label));
  }

  /** @param {number} number of a likely class, from 0 */
  chooseLikely(number) {
    const odds = this.grid.active?.likely[number];
    if (!odds || this.samples.isMulti) return false;
    return this.choose(odds[0]);
  }

  /** @param {Sample} sample @param {string|undefined} decision undefined takes it away */
  decide(sample, decision) {
    if (decision !== undefined && !this.decisions.allows(sample, decision)) {
      this.announcer.say(`Sample ${sample.id} has no given label to keep`);
      return;
    }
    this.decisions.apply([[sample.id, decision]]);
    const { view } = this.grid;
    const next = decision ? nextUndecided(view, view.indexOf(sample), this.decisions.made) : -1;
    this.#changed(next < 0 ? sample.id : view[next].id);
    const left = this.decisions.tallies().undecided;
    const rest = left ? `${grouped(left)} left` : 'All samples are decided';
    this.announcer.say(`${decided(this.decisions, sample)}, sample ${sample.id}. ${rest}`, true);
  }

  undo() {
    return this.#backOrForth(this.decisions.undo(), 'Undone');
  }

  redo() {
    return this.#backOrForth(this.decisions.redo(), 'Redone');
  }

  download() {
    const url = URL.createObjectURL(
      new Blob([decisionsCsv(this.samples, this.decisions)], { type: 'text/csv' }),
    );
    element('a', { href: url, download: 'decisions.csv' }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60000);
    this.announcer.say(`Saved ${counted(this.decisions.made.size, 'decision')} as decisions.csv`);
    return true;
  }

  /* What opens */

  openHelp() {
    this.help.dialog.showModal();
    return true;
  }

  openBulk() {
    if (this.viewer.isOpen || !this.grid.view.length) return false;
    this.bulk.open(this.grid.view, activeFilters(this.form.value) > 0);
    return true;
  }

  searchClasses() {
    if (this.samples.isMulti || !this.grid.active) return false;
    if (!this.viewer.isOpen) this.openViewer();
    this.viewer.picker.focus();
    return true;
  }

  focusSearch() {
    if (this.viewer.isOpen) return false;
    byId('search').focus();
    return true;
  }

  singleKeys() {
    return this.help.choice.checked;
  }

  /** Whether keys act: not under a small dialog, not over the summary. */
  takesKeys() {
    const blocked = document.querySelector('dialog.dialog[open]');
    return !blocked && (!byId('review').hidden || this.viewer.isOpen);
  }

  /* Inside */

  #wire() {
    document.addEventListener('keydown', (event) => onKey(this, event));
    document.addEventListener('DOMContentLoaded', () => {
      this.grid.fillImages();
      if (this.viewer.isOpen) this.openViewer();
    });
    window.addEventListener('hashchange', () => {
      this.#followHash();
      this.grid.moveTo(this.grid.place, false);
    });
    window.addEventListener('beforeunload', (event) => {
      if (!this.kept.works && this.decisions.made.size) event.preventDefault();
    });
    this.kept.watch(() => {
      this.decisions.restore(this.kept.load());
      this.#changed(this.grid.active?.id, false);
    });
    byId('sort').addEventListener('change', () => {
      this.ordered = sorted(this.samples.all, byId('sort').value);
      this.showFromStart();
    });
    const clicks = {
      undo: () => this.undo(),
      redo: () => this.redo(),
      download: () => this.download(),
      bulk: () => this.openBulk(),
      'clear-all': () => this.clear.open(),
    };
    for (const [id, click] of Object.entries(clicks)) byId(id).addEventListener('click', click);
    wireTheme();
  }

  #restore() {
    this.decisions.restore(this.kept.load());
    noticeOfOthers(Object.keys(this.decisions.elsewhere).length);
    noticeOfStorage(this.kept.works);
  }

  /** Decisions have changed: keep and show them, and stay at a sample. */
  #changed(id, keep = true) {
    if (keep) this.kept.save(this.decisions.stored());
    noticeOfStorage(this.kept.works);
    if (byId('filters').elements.namedItem('state').value === 'all') {
      this.grid.refresh();
      this.#tallies();
      const place = this.grid.view.findIndex((sample) => sample.id === id);
      if (place >= 0 && place !== this.grid.place) this.#goTo(place);
    } else {
      this.showView(id, this.grid.place);
    }
    if (!this.viewer.isOpen) return;
    if (!this.grid.active) this.viewer.dialog.close();
    else if (this.viewer.sample !== this.grid.active) this.openViewer();
    else this.viewer.refresh();
  }

  #goTo(place) {
    const focus = !this.viewer.isOpen && !document.activeElement?.closest('dialog, .top');
    this.grid.moveTo(place, focus);
    if (this.viewer.isOpen && this.viewer.sample !== this.grid.active) this.openViewer();
  }

  #backOrForth(ids, word) {
    if (!ids) return false;
    this.#changed(ids[0]);
    this.announcer.say(
      ids.length === 1 ? `${word}: sample ${ids[0]}` : `${word}: ${counted(ids.length, 'sample')}`,
    );
    return true;
  }

  #applyMany(changes, text) {
    if (!this.decisions.apply(changes)) return;
    this.#changed(this.grid.active?.id);
    this.announcer.say(text, true);
  }

  #tallies() {
    const tallies = this.decisions.tallies();
    this.form.show(tallies, activeFilters(this.form.value));
    showProgress(tallies, this.decisions);
  }

  #viewerClosed() {
    history.replaceState(null, '', '#review');
    // The browser gives the focus back to the card that the large view was opened from.
    const place = this.grid.view.indexOf(this.viewer.sample);
    this.grid.moveTo(place < 0 ? this.grid.place : place);
  }

  #followHash() {
    showPart(location.hash === '#summary');
    const wanted = this.samples.byId.get(Number(/^#sample=(\d+)$/.exec(location.hash)?.[1] ?? NaN));
    if (!wanted) return;
    if (!this.grid.view.includes(wanted)) {
      this.form.clear();
      this.showView(wanted.id, 0);
    }
    this.grid.moveTo(this.grid.view.indexOf(wanted), false);
    this.openViewer();
  }
}

new Review(JSON.parse(byId('data').textContent));
