// Single changes of rows with several labels, as they are shown and clicked.

const MOST_CHIPS = 4;

/**
 * The changes of a card as buttons, a few of them.
 * @param {Samples} samples
 * @param {Sample} sample
 * @param {string|undefined} decision
 * @returns {Node[]}
 */
function changeChips(samples, sample, decision) {
  const changes = changesOf(sample, decision);
  if (!changes.length) return [element('span', { className: 'chip', textContent: 'no change' })];
  const shown = changes.length > MOST_CHIPS ? changes.slice(0, MOST_CHIPS - 1) : changes;
  const chips = shown.map((change, place) => changeChip(samples, change, place));
  if (shown.length < changes.length)
    chips.push(element('span', { className: 'chip more', textContent: `+${changes.length - shown.length} more` }));
  return chips;
}

/** @param {Samples} samples @param {any} change of `changesOf` @param {number} place among them */
function changeChip(samples, change, place) {
  const text = signed(samples, change);
  return element(
    'button',
    {
      type: 'button',
      tabIndex: -1,
      className: `chip ${change.adds ? 'added' : 'removed'} ${change.state}`,
      title: `${text}: ${inWords(change)}`,
      'aria-label': `${text}: ${inWords(change)}`,
      'data-label': String(change.label),
      'data-key': keyOf(change, place),
    },
    element('span', { className: 'name', textContent: text }),
  );
}

/** The digit that changes a change, '' for none. */
function keyOf(change, place) {
  return change.isOwn || place > 9 ? '' : String((place + 1) % 10);
}

/** @param {any} change of `changesOf` */
function inWords(change) {
  return change.isOwn ? 'your own' : change.state;
}

/** What became of the changes of a row, in words. @param {Samples} samples @param {Sample} sample @param {string|undefined} decision */
function changesInWords(samples, sample, decision) {
  const changes = changesOf(sample, decision);
  return changes.map((change) => `${signed(samples, change)} ${inWords(change)}`).join(', ');
}

/** The changes of the large view, each with its buttons. */
class ChangeList {
  /**
   * @param {Samples} samples
   * @param {(label: number, wanted?: string) => void} mark
   */
  constructor(samples, mark) {
    Object.assign(this, { samples, mark });
    this.root = element('ul', { className: 'changes' });
    this.root.addEventListener('click', (event) => {
      const button = event.target.closest('button');
      if (button) this.#clicked(button);
    });
  }

  /** Show what is decided; the keyboard stays where it is. @param {Sample} sample @param {string|undefined} decision */
  show(sample, decision) {
    const held = this.root.contains(document.activeElement) ? document.activeElement.dataset : null;
    this.root.replaceChildren(...changesOf(sample, decision).map((change, place) => this.#line(change, place)));
    if (!this.root.firstChild) this.root.append(element('li', { className: 'hint', textContent: 'no change' }));
    if (!held) return;
    const same = (button) => button.dataset.label === held.label && button.dataset.wanted === held.wanted;
    ([...this.root.querySelectorAll('button')].find(same) ?? byId('viewer-file')).focus();
  }

  #clicked(button) {
    const { label, wanted } = button.dataset;
    this.mark(Number(label), wanted || undefined);
  }

  #line(change, place) {
    const text = signed(this.samples, change);
    const key = keyOf(change, place);
    const button = (name, wanted, drawing) =>
      element(
        'button',
        {
          type: 'button',
          className: `judge ${wanted}`,
          title: `${name} ${text}`,
          'aria-label': `${name} ${text}`,
          'aria-pressed': String(wanted === change.state && !change.isOwn),
          'data-label': String(change.label),
          'data-wanted': wanted,
        },
        icon(drawing),
      );
    const buttons = change.isOwn
      ? [button('Take back', '', 'undo')]
      : [button('Accept', 'accepted', 'accept'), button('Refuse', 'refused', 'clear')];
    return element(
      'li',
      { className: `${change.adds ? 'added' : 'removed'} ${change.state}` },
      element('kbd', { textContent: key, hidden: !key, 'aria-hidden': 'true' }),
      element('span', { className: 'name', textContent: text }),
      element('span', { className: 'said', textContent: inWords(change) }),
      ...buttons,
    );
  }
}

/** Decides on single changes of the row that keys act on; the row stays until the reader goes on. */
class Marks {
  /** @param {any} review */
  constructor(review) {
    this.review = review;
    const { grid } = review;
    grid.root.addEventListener('click', (event) => {
      const chip = event.target.closest('button.chip');
      if (!chip) return;
      // Some browsers give what is touched no focus: its card is not the active one yet.
      const id = Number(chip.closest('.card').dataset.id);
      grid.moveTo(grid.view.findIndex((sample) => sample.id === id));
      this.mark(Number(chip.dataset.label));
    });
  }

  /** @param {number} number of a suggested change, from 0 @returns {boolean} whether there is one */
  byKey(number) {
    const sample = this.review.grid.active;
    const change = sample && changesOf(sample, undefined)[number];
    return change ? this.mark(change.label) : false;
  }

  /** A change as it stands in the list. @param {number} label @param {string} [wanted] see `marked` */
  mark(label, wanted) {
    const isSuggested = (sample) => suggestedStates(sample).has(label);
    const after = (sample, before) =>
      isSuggested(sample) ? marked(sample, before, label, wanted) : toggled(sample, before, label);
    return this.#decide(label, after);
  }

  /** Any label, given or taken. @param {number} label */
  toggle(label) {
    return this.#decide(label, (sample, before) => toggled(sample, before, label));
  }

  #decide(label, after) {
    const { samples, decisions, shared, grid } = this.review;
    const sample = grid.active;
    if (!sample) return true;
    shared.catchUp();
    const decision = after(sample, decisions.made.get(sample.id));
    shared.apply([[sample.id, decision]]);
    this.review.changed(sample.id, true);
    const found = changesOf(sample, decision).find((change) => change.label === label);
    const text = found ? `${signed(samples, found)} ${inWords(found)}` : `${samples.names[label]} as given`;
    this.review.announcer.say(`${text}, sample ${sample.id}. ${whatIsLeft(decisions)}`, true);
    return true;
  }
}
