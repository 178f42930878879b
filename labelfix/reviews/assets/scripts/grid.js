// The grid of cards. Only rows near the window exist: 20,000 samples cost no more than 50.

const ROWS_AROUND = 3;
const ROOM_FOR_TOAST = 72;

/** A windowed ARIA grid with one tab stop; it scrolls with the page. */
class Grid {
  /**
   * @param {any} root
   * @param {Cards} cards
   * @param {(sample: Sample) => void} open
   */
  constructor(root, cards, open) {
    Object.assign(this, { root, cards, open });
    /** @type {Sample[]} */
    this.view = [];
    this.place = 0;
    this.columns = 1;
    /** Of a row with its gap in px; 0 before it is measured. */
    this.height = 0;
    /** @type {Map<number, any>} */
    this.rows = new Map();
    this.width = root.clientWidth;
    new ResizeObserver(() => this.#resized()).observe(root);
    window.addEventListener('scroll', () => requestAnimationFrame(() => this.#draw()), { passive: true });
    this.byPointer = false;
    root.addEventListener('pointerdown', () => (this.byPointer = true));
    document.addEventListener('keydown', () => (this.byPointer = false));
    root.addEventListener('focusin', (event) => this.#entered(event));
    root.addEventListener('click', (event) => this.#clicked(event));
  }

  /** @returns {Sample|undefined} the one that keys act on */
  get active() {
    return this.view[this.place];
  }

  /** Show other samples, or the same in another order. @param {Sample[]} view @param {number} place of the active one */
  show(view, place) {
    const hadFocus = this.root.contains(document.activeElement);
    this.view = view;
    this.place = Math.max(0, Math.min(place, view.length - 1));
    this.root.hidden = !view.length;
    this.#clear();
    if (hadFocus) this.moveTo(this.place);
    else this.#drawSoon();
  }

  /** Decisions were made: what is drawn shows them. */
  refresh() {
    this.#cards((card, sample) => this.cards.state(card, sample));
  }

  /** More thumbnails have been read. */
  fillImages() {
    this.#cards((card, sample) => card.querySelector('img').hidden && this.cards.image(card, sample));
  }

  /** Make a place the active one, in sight. @param {number} place @param {boolean} [focus] @param {boolean} [scrolls] */
  moveTo(place, focus = true, scrolls = true) {
    if (!this.view.length) return;
    this.#cardAt(this.place)?.setAttribute('tabindex', '-1');
    this.#cardAt(this.place)?.classList.remove('active');
    this.place = Math.max(0, Math.min(place, this.view.length - 1));
    if (scrolls) this.#bringIntoSight();
    this.#drawSoon();
    const card = this.#cardAt(this.place);
    if (!card) return;
    card.setAttribute('tabindex', '0');
    card.classList.add('active');
    if (focus) card.focus({ preventScroll: true });
  }

  /** Give the active one the keyboard where it is, be it out of sight. */
  focus() {
    this.#cardAt(this.place)?.focus({ preventScroll: true });
  }

  /** @param {string} key @returns {boolean} whether it was a key that moves */
  key(key) {
    const page = this.columns * Math.max(1, Math.floor(window.innerHeight / this.height) - 1);
    const jumps = {
      Home: 0,
      End: this.view.length - 1,
      PageUp: this.place - page,
      PageDown: this.place + page,
    };
    const steps = {
      ArrowLeft: -1,
      ArrowRight: 1,
      ArrowUp: -this.columns,
      ArrowDown: this.columns,
      k: -1,
      j: 1,
    };
    if (key in jumps) this.moveTo(jumps[key]);
    else if (key in steps) this.#step(steps[key]);
    else return false;
    return true;
  }

  #step(step) {
    const last = this.view.length - 1;
    const place = this.place + step;
    const rowOf = (one) => Math.floor(one / this.columns);
    // Down where the last row is too short leads to its end; over an edge leads nowhere.
    if (place > last && rowOf(last) > rowOf(this.place)) this.moveTo(last);
    else this.moveTo(place < 0 || place > last ? this.place : place);
  }

  /** No row any more, and the height of those of the view. */
  #clear() {
    this.rows.forEach((row) => row.remove());
    this.rows.clear();
    if (!this.view.length || !this.width) return;
    if (!this.height) this.#measure();
    this.root.setAttribute('aria-colcount', String(this.columns));
    this.root.setAttribute('aria-rowcount', String(this.#rowCount()));
    this.root.style.height = `${this.#rowCount() * this.height}px`;
  }

  /** How many cards fit into a row, and how high it is with the gap below it. */
  #measure() {
    const style = getComputedStyle(this.root);
    const gap = parseFloat(style.rowGap);
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    const least = parseFloat(style.getPropertyValue('--card-min')) * rem;
    this.columns = Math.max(1, Math.floor((this.width + gap) / (least + gap)));
    this.root.style.setProperty('--columns', String(this.columns));
    const row = this.#row(0);
    this.height = row.getBoundingClientRect().height + gap;
    row.remove();
    this.rows.delete(0);
  }

  #rowCount() {
    return Math.ceil(this.view.length / this.columns);
  }

  /** What is in sight at once, what is around it when the frame is out. */
  #drawSoon() {
    this.#draw(0);
    clearTimeout(this.later);
    this.later = setTimeout(() => this.#draw(), 50);
  }

  /** Make the rows in sight and `around` it, and the active one; take far ones away. @param {number} around */
  #draw(around = ROWS_AROUND) {
    if (!this.view.length || !this.width) return;
    const top = -this.root.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(top / this.height) - around);
    const last = Math.min(
      this.#rowCount() - 1,
      Math.floor((top + window.innerHeight) / this.height) + around,
    );
    const kept = Math.floor(this.place / this.columns);
    for (const [number, row] of this.rows) {
      const isFar = number < first - ROWS_AROUND || number > last + ROWS_AROUND;
      if (isFar && number !== kept) {
        row.remove();
        this.rows.delete(number);
      }
    }
    for (let number = first; number <= last; number += 1) if (!this.rows.has(number)) this.#row(number);
    if (!this.rows.has(kept)) this.#row(kept);
  }

  #row(number) {
    const row = element('div', { className: 'row', role: 'row', 'aria-rowindex': String(number + 1) });
    row.style.transform = `translateY(${number * this.height}px)`;
    const start = number * this.columns;
    this.view.slice(start, start + this.columns).forEach((sample, offset) => {
      const card = this.cards.make(sample);
      card.setAttribute('aria-colindex', String(offset + 1));
      card.tabIndex = start + offset === this.place ? 0 : -1;
      card.classList.toggle('active', start + offset === this.place);
      row.append(card);
    });
    const follower = [...this.rows.keys()].filter((other) => other > number).sort((a, b) => a - b)[0];
    this.root.insertBefore(row, follower === undefined ? null : this.rows.get(follower));
    this.rows.set(number, row);
    return row;
  }

  #cardAt(place) {
    return this.rows.get(Math.floor(place / this.columns))?.children[place % this.columns];
  }

  #cards(visit) {
    for (const [number, row] of this.rows) {
      [...row.children].forEach((card, offset) => visit(card, this.view[number * this.columns + offset]));
    }
  }

  #bringIntoSight() {
    const top = this.root.getBoundingClientRect().top + Math.floor(this.place / this.columns) * this.height;
    const covered = parseFloat(getComputedStyle(document.documentElement).scrollPaddingTop) || 0;
    const bottom = top + this.height;
    const free = window.innerHeight - ROOM_FOR_TOAST;
    // The row goes to the top, with all that follows below it.
    if (top < covered || bottom > free) window.scrollBy(0, top - covered);
  }

  #resized() {
    const { clientWidth } = this.root;
    if (clientWidth === this.width || !clientWidth) return;
    this.width = clientWidth;
    this.height = 0;
    this.#clear();
    this.#drawSoon();
  }

  #placeOf(target) {
    const card = target.closest('.card');
    const row = card?.parentElement;
    return card
      ? (Number(row.getAttribute('aria-rowindex')) - 1) * this.columns + [...row.children].indexOf(card)
      : -1;
  }

  #entered(event) {
    const place = this.#placeOf(event.target);
    // A pointer that is down clicks on what is below it when it goes up: the page stays till then.
    if (place >= 0 && place !== this.place) this.moveTo(place, false, !this.byPointer);
  }

  #clicked(event) {
    const place = this.#placeOf(event.target);
    if (place < 0 || event.target.closest('a, button')) return;
    this.moveTo(place);
    if (event.target.closest('.frame')) this.open(this.view[place]);
  }
}
