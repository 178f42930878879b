// A range of noise scores: two sliders on one track, over a histogram of the page's scores.

const SCORE_BINS = 25;

/** The score filter of the form. */
class ScoreRange {
  /** @param {Sample[]} samples @param {() => void} changed */
  constructor(samples, changed) {
    this.low = byId('score-min');
    this.high = byId('score-max');
    this.bars = this.#histogram(samples);
    this.low.addEventListener('input', () => this.#moved(this.low, changed));
    this.high.addEventListener('input', () => this.#moved(this.high, changed));
    this.#show();
  }

  /** @returns {[number, number]} lowest and highest score let through */
  get value() {
    return [Number(this.low.value), Number(this.high.value)];
  }

  reset() {
    this.low.value = '0';
    this.high.value = '1';
    this.#show();
  }

  #moved(slider, changed) {
    const [low, high] = this.value;
    if (low > high) slider.value = String(slider === this.low ? high : low);
    this.#show();
    changed();
  }

  #show() {
    const [low, high] = this.value;
    byId('score-text').textContent = `${low.toFixed(2)} – ${high.toFixed(2)}`;
    // Both thumbs at the right end: the lower one must be the one that can be taken.
    this.low.classList.toggle('on-top', low > 0.5);
    this.bars.forEach((one, number) => {
      const middle = (number + 0.5) / SCORE_BINS;
      one.classList.toggle('outside', middle < low || middle > high);
    });
  }

  #histogram(samples) {
    const counts = new Array(SCORE_BINS).fill(0);
    for (const { score } of samples)
      if (score !== null) counts[Math.min(SCORE_BINS - 1, Math.floor(score * SCORE_BINS))] += 1;
    const most = Math.max(1, ...counts);
    const bars = counts.map((count) => {
      const one = element('span');
      // The square root lets a few samples be seen beside many.
      one.style.transform = `scaleY(${Math.sqrt(count / most)})`;
      return one;
    });
    byId('score-bars').append(...bars);
    return bars;
  }
}
