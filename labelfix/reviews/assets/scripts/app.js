// The page comes to life: the parts above, joined.

/** Everything a reader can do; the keyboard and the buttons call the same functions, which return true when done. */
class Review {
  /** @param {any} data what the page carries */
  constructor(data) {
    this.samples = new Samples(data);
    this.decisions = new Decisions(this.samples);
    this.kept = new KeptDecisions(data.run.id);
    this.shared = new SharedDecisions(this.decisions, this.kept);
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
        mark: (label, wanted) => this.marks.mark(label, wanted),
        undo: () => this.undo(),
        step: (step) => this.move(step > 0 ? 'j' : 'k', this.grid.root),
        closed: () => this.#viewerClosed(),
      },
    );
    this.announcer = new Announcer(
      () => this.viewer.isOpen,
      () => this.undo(),
    );
    this.marks = new Marks(this);
    this.bulk = new BulkDialog(this.decisions, (changes, text) => this.#applyMany(changes, text));
    this.clear = new ClearDialog(this.decisions, (changes, text) => this.#applyMany(changes, text));
    this.help = new HelpDialog();
    byId('sort').value = data.run.sort ?? 'score';
    this.ordered = sorted(this.samples.all, byId('sort').value);
    showNotices(this.decisions, this.kept);
    this.#wire();
    this.showView(undefined, 0);
    showPart(false);
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
    const held = document.activeElement;
    const isHere = held === document.body || Boolean(held?.closest('.results'));
    const filters = this.form.value;
    const view = viewOf(this.samples.all, this.ordered, filters, this.decisions.made);
    const place = view.findIndex((sample) => sample.id === id);
    this.grid.show(view, place < 0 ? otherwise : place);
    showCount(view.length, this.samples.all.length);
    this.#tallies();
    // What had the focus is gone: it goes to what came instead.
    if (byId('empty').contains(held)) this.grid.moveTo(this.grid.place);
    else if (isHere) this.#focusWhereEmpty();
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
    if (this.samples.isMulti) return this.marks.toggle(label);
    return this.decideActive(this.decisions.choosing(this.grid.active, label));
  }

  /** @param {number} number of a likely class, or of a suggested change, from 0 */
  chooseLikely(number) {
    if (this.samples.isMulti) return this.marks.byKey(number);
    const odds = this.grid.active?.likely[number];
    return odds ? this.choose(odds[0]) : false;
  }

  /** @param {Sample} sample @param {string|undefined} wanted undefined takes it away */
  decide(sample, wanted) {
    this.shared.catchUp();
    const decision = this.decisions.meant(sample, wanted);
    if (decision !== undefined && !this.decisions.allows(sample, decision)) {
      this.announcer.say(`Sample ${sample.id} has no given label to keep`);
      return;
    }
    const changes = this.decisions.ofCopies(sample, decision);
    this.shared.apply(changes);
    const { view } = this.grid;
    const next = decision ? nextUndecided(view, view.indexOf(sample), this.decisions.made) : -1;
    this.changed(next < 0 ? sample.id : view[next].id);
    const about = `sample ${sample.id}${andCopies(changes)}. ${whatIsLeft(this.decisions)}`;
    this.announcer.say(`${decided(this.decisions, sample)}, ${about}`, true);
  }

  undo() {
    return this.#backOrForth(this.shared.undo(), 'Undone', 'undo');
  }

  redo() {
    return this.#backOrForth(this.shared.redo(), 'Redone', 'redo');
  }

  download() {
    offerCsv('decisions.csv', decisionsCsv(this.samples, this.decisions));
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
    if (!this.grid.active) return false;
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

  /** Whether a key acts: none under a small dialog, only the one for the key sheet over the summary. */
  takesKeys(key) {
    const blocked = document.querySelector('dialog.dialog[open]');
    return !blocked && (key === '?' || !byId('review').hidden || this.viewer.isOpen);
  }

  /* Inside */

  #wire() {
    document.addEventListener('keydown', (event) => onKey(this, event));
    giveKeysBack(byId('review'), this.grid);
    document.addEventListener('DOMContentLoaded', () => {
      this.grid.fillImages();
      if (this.viewer.isOpen) this.openViewer();
    });
    window.addEventListener('hashchange', () => {
      if (this.#followHash() && !byId('review').hidden) this.grid.moveTo(this.grid.place, false);
    });
    window.addEventListener('beforeunload', (event) => {
      if (!this.kept.works && this.decisions.made.size) event.preventDefault();
    });
    this.kept.watch(() => this.shared.catchUp() && this.changed(this.grid.active?.id));
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
    wireOpening(this.decisions, (changes, text) => this.#applyMany(changes, text), this.announcer);
    wireTheme();
  }

  /** Decisions have changed, here or in another tab: show them at a sample, which may be held in the view. */
  changed(id, isHeld = false) {
    showNotices(this.decisions, this.kept);
    if (isHeld || byId('filters').elements.namedItem('state').value === 'all') {
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

  #backOrForth(ids, word, verb) {
    // Another tab may have decided since about all that was done here.
    this.changed(ids ? ids[0] : this.grid.active?.id);
    if (!ids) this.announcer.say(`Nothing to ${verb}`);
    else if (ids.length === 1) this.announcer.say(`${word}: sample ${ids[0]}`);
    else this.announcer.say(`${word}: ${counted(ids.length, 'sample')}`);
    return true;
  }

  #applyMany(changes, text) {
    this.shared.apply(changes);
    this.changed(this.grid.active?.id);
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
    this.#focusWhereEmpty();
  }

  #focusWhereEmpty() {
    if (!this.grid.view.length) byId('empty-reset').focus();
  }

  /** @returns {boolean} whether the address names a part of the page or a sample */
  #followHash() {
    if (!followPart(location.hash)) return false;
    const wanted = this.samples.byId.get(Number(/^#sample=(\d+)$/.exec(location.hash)?.[1] ?? NaN));
    if (!wanted) return true;
    if (!this.grid.view.includes(wanted)) {
      this.form.clear();
      this.showView(wanted.id, 0);
    }
    this.grid.moveTo(this.grid.view.indexOf(wanted), false);
    return this.openViewer();
  }
}

new Review(JSON.parse(byId('data').textContent));
