// The keyboard: one handler for the page, and none of its keys while somebody types.

/** What a key that is held down does but once; moving, undo and redo go on and on. */
const ONCE = /^([agsxbd0-9 ]|Backspace|Enter)$/;

/** @param {any} review @param {KeyboardEvent} event */
function onKey(review, event) {
  const target = /** @type {any} */ (event.target);
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.defaultPrevented || event.altKey || belongsTo(target, key) || !review.takesKeys(key)) return;
  const done =
    event.ctrlKey || event.metaKey ? historyKey(review, key, event.shiftKey) : plainKey(review, key, event);
  if (done) event.preventDefault();
}

/** Whether a field needs the key itself: all while typing, arrows and space for a slider or a choice. */
function belongsTo(target, key) {
  const field = target.closest('input, select, textarea');
  if (!field) return false;
  const isChoice = ['radio', 'checkbox', 'range'].includes(field.type);
  return !isChoice || key.length > 1 || key === ' ';
}

/**
 * What is chosen with a pointer gives the keyboard back to the samples; who came by keyboard stays there.
 * @param {any} root of the filters and the order
 * @param {Grid} grid
 */
function giveKeysBack(root, grid) {
  let byPointer = false;
  const after = (selector) => (event) => {
    // The browser goes on with a click after this: it checks a radio button, and the view changes.
    if (byPointer && event.target.matches(selector)) setTimeout(() => grid.focus());
  };
  root.addEventListener('pointerdown', () => (byPointer = true));
  root.addEventListener('keydown', () => (byPointer = false));
  root.addEventListener('click', after('[name="state"], #reset-filters'));
  root.addEventListener('change', after('select'));
}

/** Ctrl or Command with Z or Y. */
function historyKey(review, key, shift) {
  if (key === 'z') return shift ? review.redo() : review.undo();
  return key === 'y' ? review.redo() : false;
}

/** @returns {boolean} whether the key meant something */
function plainKey(review, key, event) {
  const isCharacter = key.length === 1 && key !== ' ';
  if (isCharacter && !review.singleKeys()) return false;
  if (event.repeat && ONCE.test(key)) return true;
  if (/^[0-9]$/.test(key)) return review.chooseLikely((Number(key) + 9) % 10);
  const actions = {
    a: () => review.decideActive('accept'),
    g: () => review.decideActive('keep'),
    s: () => review.decideActive('skip'),
    x: () => review.decideActive('remove'),
    c: () => review.searchClasses(),
    z: () => (event.shiftKey ? review.redo() : review.undo()),
    y: () => review.redo(),
    n: () => review.toNextUndecided(),
    b: () => review.openBulk(),
    d: () => review.download(),
    '/': () => review.focusSearch(),
    '?': () => review.openHelp(),
    Backspace: () => review.decideActive(undefined),
  };
  if (key in actions) return actions[key]();
  if ((key === 'Enter' || key === ' ') && !event.target.closest('a, button')) return review.toggleViewer();
  return review.move(key, event.target);
}
