'use strict';
// Before the first paint: what the reader chose last time, so that the page never flashes in the other colours.
(() => {
  document.documentElement.classList.add('with-script');
  try {
    const theme = localStorage.getItem('labelfix-review-theme');
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  } catch {
    // A browser that keeps nothing shows the colours of the system.
  }
})();
