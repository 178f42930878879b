// A searchable list of all classes: an ARIA combobox, likely classes first.

const LISTED = 100;

/** Chooses any class of the run for the sample in the large view. */
class Picker {
  /** @param {Samples} samples @param {(label: number) => void} choose */
  constructor(samples, choose) {
    Object.assign(this, { samples, choose });
    this.input = byId('picker-input');
    this.list = byId('picker-list');
    this.folded = samples.names.map((name) => name.toLowerCase());
    this.input.addEventListener('input', () => this.open());
    this.input.addEventListener('click', () => this.open());
    this.input.addEventListener('blur', () => this.close());
    this.input.addEventListener('keydown', (event) => this.#key(event));
    // Before the input loses focus, which would take the list away under the pointer.
    this.list.addEventListener('pointerdown', (event) => event.preventDefault());
    this.list.addEventListener('click', (event) => {
      const option = event.target.closest('[role="option"]');
      if (option) this.#choose(option);
    });
  }

  /** @param {Sample} sample whose likely classes come first */
  show(sample) {
    this.likely = new Map(sample.likely);
    const rest = this.samples.names.map((_, label) => label).filter((label) => !this.likely.has(label));
    this.order = [...this.likely.keys(), ...rest];
    this.input.value = '';
    this.close();
  }

  focus() {
    this.input.focus();
    this.open();
  }

  open() {
    const text = this.input.value.trim().toLowerCase();
    const found = this.order.filter((label) => this.folded[label].includes(text));
    // A name that begins with the text comes before one that holds it.
    if (text)
      found.sort((a, b) => Number(this.folded[b].startsWith(text)) - Number(this.folded[a].startsWith(text)));
    this.list.replaceChildren(...found.slice(0, LISTED).map((label) => this.#option(label)));
    if (found.length > LISTED)
      this.list.append(
        this.#hint(`${counted(found.length - LISTED, 'more class', 'more classes')}: type to find them`),
      );
    if (!found.length) this.list.append(this.#hint('No class has this name'));
    this.list.hidden = false;
    this.input.setAttribute('aria-expanded', 'true');
    this.#mark(this.#options()[0]);
  }

  close() {
    this.list.hidden = true;
    this.input.setAttribute('aria-expanded', 'false');
    this.input.removeAttribute('aria-activedescendant');
  }

  #option(label) {
    const share = this.likely.get(label);
    return element(
      'li',
      { role: 'option', id: `picker-${label}`, 'aria-selected': 'false', 'data-label': String(label) },
      element('span', { className: 'name', textContent: this.samples.names[label] }),
      element('span', { className: 'share', textContent: share === undefined ? '' : percent(share) }),
    );
  }

  #hint(text) {
    return element('li', { role: 'option', 'aria-disabled': 'true', className: 'hint', textContent: text });
  }

  #options() {
    return [...this.list.querySelectorAll('[data-label]')];
  }

  #marked() {
    return this.list.querySelector('[aria-selected="true"]');
  }

  #mark(option) {
    this.#marked()?.setAttribute('aria-selected', 'false');
    if (!option) return this.input.removeAttribute('aria-activedescendant');
    option.setAttribute('aria-selected', 'true');
    this.input.setAttribute('aria-activedescendant', option.id);
    return option.scrollIntoView({ block: 'nearest' });
  }

  #key(event) {
    const isOpen = !this.list.hidden;
    if (event.key === 'Escape' && isOpen) this.close();
    else if (event.key === 'Enter' && isOpen && this.#marked()) this.#choose(this.#marked());
    else if (event.key === 'ArrowDown' || event.key === 'ArrowUp') {
      if (!isOpen) this.open();
      else this.#step(event.key === 'ArrowDown' ? 1 : -1);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #step(step) {
    const options = this.#options();
    const place = options.indexOf(this.#marked()) + step;
    this.#mark(options[(place + options.length) % options.length]);
  }

  #choose(option) {
    this.choose(Number(option.dataset.label));
  }
}
