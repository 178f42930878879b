// How far the review is, and how much of the run the view holds.

/** @param {Object<string, number>} tallies by state @param {Decisions} decisions */
function showProgress(tallies, decisions) {
  byId('progress').max = Math.max(1, tallies.all);
  byId('progress').value = tallies.decided;
  byId('progress-text').textContent =
    `${grouped(tallies.decided)} decided, ${grouped(tallies.undecided)} left`;
  byId('undo').disabled = !decisions.done.length;
  byId('redo').disabled = !decisions.undone.length;
  byId('clear-all').disabled = !decisions.made.size;
}

/** @param {number} shown samples in the view @param {number} all samples of the page */
function showCount(shown, all) {
  const some = `${grouped(shown)} of ${counted(all, 'sample')}`;
  byId('count').textContent = shown === all ? counted(all, 'sample') : some;
  byId('empty').hidden = shown > 0;
  byId('empty-text').textContent = all
    ? 'No sample fits these filters.'
    : 'This run has no suspects: there is nothing to review.';
  byId('empty-reset').hidden = !all;
  byId('bulk').disabled = !shown;
}

/**
 * Show the part of the page that an address asks for.
 * @param {string} hash
 * @returns {boolean} whether it asks for one
 */
function followPart(hash) {
  const isPart = /^(|#review|#summary|#sample=.*)$/.test(hash);
  if (isPart) showPart(hash === '#summary');
  return isPart;
}

/** Show one of the two parts of the page. @param {boolean} isSummary */
function showPart(isSummary) {
  byId('summary').hidden = !isSummary;
  byId('review').hidden = isSummary;
  byId(isSummary ? 'tab-summary' : 'tab-review').setAttribute('aria-current', 'page');
  byId(isSummary ? 'tab-review' : 'tab-summary').removeAttribute('aria-current');
}
