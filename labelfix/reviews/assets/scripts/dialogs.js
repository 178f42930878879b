// Small dialogs: the key sheet, deciding all shown samples, clearing all decisions.

/** A dialog of the page whose buttons with `data-close` close it. @param {string} id @returns {any} */
function dialogOf(id) {
  const dialog = byId(id);
  dialog
    .querySelectorAll('[data-close]')
    .forEach((button) => button.addEventListener('click', () => dialog.close()));
  return dialog;
}

/** Asks what to do with every sample of the view, and says with how many. */
class BulkDialog {
  /**
   * @param {Decisions} decisions
   * @param {(changes: [number, string|undefined][], text: string) => void} apply
   */
  constructor(decisions, apply) {
    Object.assign(this, { decisions, apply });
    this.dialog = dialogOf('bulk-dialog');
    this.dialog.addEventListener('change', () => this.#show());
    byId('bulk-confirm').addEventListener('click', () => this.#confirmed());
  }

  /** @param {Sample[]} view @param {boolean} isFiltered */
  open(view, isFiltered) {
    this.view = view;
    this.decided = view.filter((sample) => this.decisions.isDone(sample)).length;
    byId('bulk-view').textContent =
      `${isFiltered ? 'The filters show' : 'No filter is set: the view holds'} ${counted(view.length, 'sample')}, ${counted(this.decided, 'of them decided', 'of them decided')}.`;
    this.dialog.querySelector('[value="accept"]').checked = true;
    byId('bulk-overwrite').checked = this.decided === view.length;
    byId('bulk-decided').querySelector('span').textContent =
      `Also change the ${counted(this.decided, 'sample')} already decided`;
    this.#show();
    this.dialog.showModal();
  }

  get action() {
    return this.dialog.querySelector('[name="bulk"]:checked').value;
  }

  /** @returns {[number, string|undefined][]} what confirming would do */
  #changes() {
    const { action } = this;
    const { made } = this.decisions;
    if (action === 'clear')
      return this.view.filter((sample) => made.has(sample.id)).map((sample) => [sample.id, undefined]);
    const overwrite = byId('bulk-overwrite').checked;
    return this.view
      .filter((sample) => overwrite || !this.decisions.isDone(sample))
      .map((sample) => /** @type {any} */ ([sample, this.decisions.meant(sample, action)]))
      .filter(([sample, meant]) => this.decisions.allows(sample, meant) && made.get(sample.id) !== meant)
      .map(([sample, meant]) => [sample.id, meant]);
  }

  #show() {
    const { action } = this;
    const changes = this.#changes();
    const count = changes.length;
    byId('bulk-decided').hidden = action === 'clear' || !this.decided;
    byId('bulk-note').textContent = this.#note(changes);
    byId('bulk-confirm').textContent = this.#sentence(count);
    byId('bulk-confirm').disabled = !count;
  }

  /** What the number of samples does not say. */
  #note(changes) {
    const { action } = this;
    if (action === 'accept' && changes.length) {
      const kept = keptAmong(changes);
      const reason = kept ? ': no change is suggested' : '';
      const changed = counted(changes.length - kept, 'label');
      return `${changed} would change, ${grouped(kept)} would stay as given${reason}.`;
    }
    const unlabelled = this.view.filter((sample) => sample.given === null).length;
    if (action !== 'keep' || !unlabelled) return '';
    return `${counted(unlabelled, 'unlabelled sample')} left out: no given label to keep.`;
  }

  #sentence(count) {
    const verbs = { accept: 'Accept', keep: 'Keep', remove: 'Remove', skip: 'Skip', clear: 'Take away' };
    return `${verbs[this.action]} ${this.action === 'clear' ? counted(count, 'decision') : counted(count, 'sample')}`;
  }

  #confirmed() {
    const changes = this.#changes();
    const did = { accept: 'Accepted', keep: 'Kept', remove: 'Removed', skip: 'Skipped', clear: 'Took away the decisions of' }[
      this.action
    ];
    const stayed = this.action === 'accept' ? keptAmong(changes) : 0;
    const rest = stayed ? `, ${grouped(stayed)} of them kept as given` : '';
    this.dialog.close();
    this.apply(changes, `${did} ${counted(changes.length, 'sample')}${rest}`);
  }
}

/** @param {[number, string|undefined][]} changes @returns {number} how many keep the given label */
function keptAmong(changes) {
  return changes.filter(([, decision]) => decision === 'keep').length;
}

/** Asks before all decisions go. */
class ClearDialog {
  /**
   * @param {Decisions} decisions
   * @param {(changes: [number, string|undefined][], text: string) => void} apply
   */
  constructor(decisions, apply) {
    this.decisions = decisions;
    this.dialog = dialogOf('clear-dialog');
    byId('clear-confirm').addEventListener('click', () => {
      const ids = [...decisions.made.keys()];
      this.dialog.close();
      apply(
        ids.map((id) => [id, undefined]),
        `Cleared ${counted(ids.length, 'decision')}`,
      );
    });
  }

  open() {
    const count = this.decisions.made.size;
    byId('clear-text').textContent = count
      ? `${counted(count, 'decision')} of this run will be taken away. Undo brings them back while this page stays open.`
      : 'There are no decisions yet.';
    byId('clear-confirm').disabled = !count;
    byId('clear-confirm').textContent = count ? `Clear ${counted(count, 'decision')}` : 'Clear';
    this.dialog.showModal();
  }
}

/** The key sheet, with the switch for single-key shortcuts. */
class HelpDialog {
  constructor() {
    this.dialog = dialogOf('help-dialog');
    this.choice = byId('single-keys');
    this.choice.checked = preference('single-keys') !== 'off';
    this.choice.addEventListener('change', () => prefer('single-keys', this.choice.checked ? 'on' : 'off'));
    byId('help').addEventListener('click', () => this.dialog.showModal());
  }
}
