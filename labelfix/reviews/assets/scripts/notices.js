// What the page says: news of decisions for eyes and screen readers, and notices that stay.

const TOAST_MS = 6000;

/** Speaks through the live region that can be heard: the large view's own while that is open. */
class Announcer {
  /** @param {() => boolean} viewerIsOpen @param {() => void} undo */
  constructor(viewerIsOpen, undo) {
    this.viewerIsOpen = viewerIsOpen;
    byId('toast-undo').addEventListener('click', undo);
  }

  /** @param {string} text @param {boolean} [canUndo] */
  say(text, canUndo = false) {
    clearTimeout(this.timer);
    byId('viewer-status').textContent = this.viewerIsOpen() ? text : '';
    // The region must stand in the page before its text changes, or some readers miss it.
    byId('toast').hidden = this.viewerIsOpen();
    byId('status').textContent = text;
    byId('toast-undo').hidden = !canUndo;
    this.timer = setTimeout(() => {
      byId('toast').hidden = true;
    }, TOAST_MS);
  }
}

/** Show, change or take away a notice above the grid. @param {string} id @param {string} text '' takes it away */
function notice(id, text) {
  const old = byId(id);
  if (!text) return old?.remove();
  if (old) {
    // The same words again would be read out again.
    if (old.textContent !== text) old.querySelector('p').textContent = text;
    return undefined;
  }
  const made = element(
    'div',
    { id, className: 'notice warning', role: 'alert' },
    icon('warning'),
    element('p', { textContent: text }),
  );
  return byId('notices').append(made);
}

/** @param {boolean} works whether the browser keeps decisions */
function noticeOfStorage(works) {
  const text = 'This browser keeps no decisions: its storage is off or full.';
  notice('storage', works ? '' : `${text} Download decisions.csv before you close the page.`);
}

/** @param {number} count of kept decisions about samples that are not on this page */
function noticeOfOthers(count) {
  const text = `This browser keeps ${counted(count, 'decision')} about samples of this run that the page does not show.`;
  notice('other-rows', count ? `${text} They stay kept, but are not in its download.` : '');
}

/** Both of decisions. @param {Decisions} decisions @param {KeptDecisions} kept */
function showNotices(decisions, kept) {
  noticeOfOthers(Object.keys(decisions.ofOtherRows).length);
  noticeOfStorage(kept.works);
}

/** The switch between light and dark. */
function wireTheme() {
  const root = document.documentElement;
  const system = matchMedia('(prefers-color-scheme: dark)');
  const isDark = () => (root.dataset.theme ?? (system.matches ? 'dark' : 'light')) === 'dark';
  const show = () => byId('theme').setAttribute('aria-pressed', String(isDark()));
  byId('theme').addEventListener('click', () => {
    root.dataset.theme = isDark() ? 'light' : 'dark';
    prefer('theme', root.dataset.theme);
    show();
  });
  system.addEventListener('change', show);
  show();
}
