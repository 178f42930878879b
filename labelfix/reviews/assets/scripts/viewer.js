// The large view of one sample.

/** A dialog with the image, the labels in question, the likely classes and the four decisions. */
class Viewer {
  /**
   * @param {{samples: Samples, decisions: Decisions, thumbs: Thumbs}} page
   * @param {{decide: (decision: string) => void, choose: (label: number) => void, mark: (label: number, wanted?: string) => void, undo: () => void, step: (step: number) => void, closed: () => void}} callbacks
   */
  constructor(page, callbacks) {
    Object.assign(this, page);
    this.dialog = byId('viewer');
    this.choose = callbacks.choose;
    this.picker = new Picker(this.samples, (label) => {
      callbacks.choose(label);
      if (this.samples.isMulti) this.#leavePicker();
    });
    this.changes = new ChangeList(this.samples, callbacks.mark);
    byId('viewer-previous').addEventListener('click', () => callbacks.step(-1));
    byId('viewer-next').addEventListener('click', () => callbacks.step(1));
    byId('viewer-close').addEventListener('click', () => this.dialog.close());
    this.dialog.addEventListener('close', callbacks.closed);
    this.dialog.querySelectorAll('[data-action]').forEach((button) => {
      const { action } = button.dataset;
      button.addEventListener('click', () =>
        action === 'undo' ? callbacks.undo() : callbacks.decide(action),
      );
    });
  }

  get isOpen() {
    return this.dialog.open;
  }

  /** @param {Sample} sample @param {string} place such as "3 of 120" */
  show(sample, place) {
    this.sample = sample;
    byId('viewer-file').textContent = sample.file;
    byId('viewer-place').textContent = `${place} · sample ${sample.id}`;
    this.thumbs.show(sample, byId('viewer-image'), byId('viewer-no-image'));
    byId('viewer-image').alt = `Sample ${sample.id}, ${sample.file}`;
    this.#verdict(sample);
    this.#facts(sample);
    byId('viewer-likely').replaceChildren(
      ...sample.likely.map((odds, number) => this.#choice(odds, number, sample)),
    );
    this.picker.show(sample);
    byId('viewer-link').href = `#sample=${sample.id}`;
    this.#original(sample);
    this.dialog.querySelector('[data-action="keep"]').disabled = sample.given === null;
    if (!this.isOpen) {
      this.dialog.showModal();
      byId('viewer-file').focus();
    } else if (this.dialog.contains(document.activeElement) && document.activeElement.matches('input')) {
      byId('viewer-file').focus();
    }
    this.refresh();
  }

  /** Show what is decided. */
  refresh() {
    if (!this.sample) return;
    const decision = this.decisions.made.get(this.sample.id);
    const kind = decision ? kindOf(decision) : '';
    this.dialog.dataset.state = kind;
    this.dialog.querySelectorAll('[data-action]').forEach((button) => {
      if (button.dataset.action !== 'undo')
        button.setAttribute('aria-pressed', String(button.dataset.action === kind));
    });
    this.dialog.querySelector('[data-action="undo"]').disabled = !this.decisions.done.length;
    const chosen = this.#chosen(decision);
    byId('viewer-likely')
      .querySelectorAll('button')
      .forEach((button) => {
        button.setAttribute('aria-pressed', String(chosen.includes(Number(button.dataset.label))));
      });
    if (this.samples.isMulti) {
      this.changes.show(this.sample, decision);
      byId('viewer-labels').textContent = this.samples.nameOf(chosen);
    }
    const text = this.samples.isMulti && decision ? DONE[kind] : decided(this.decisions, this.sample);
    byId('viewer-decision').replaceChildren(...(kind ? [icon(kind)] : []), text);
  }

  /** The labels that the sample has by a decision; of several what is open is as the method has it. */
  #chosen(decision) {
    if (this.samples.isMulti) return labelsBy(this.sample, decision);
    return decision ? [this.decisions.labelOf(this.sample, decision)] : [];
  }

  #leavePicker() {
    this.picker.show(this.sample);
    byId('viewer-file').focus();
  }

  #verdict(sample) {
    const name = (text, kind) => element('span', { className: `name ${kind}`, textContent: text });
    const side = (title, ...content) =>
      element(
        'div',
        { className: 'side' },
        element('span', { className: 'hint', textContent: title }),
        ...content,
      );
    const given = side('Given', name(this.samples.nameOf(sample.given), 'given'));
    const hasChange = this.samples.hasChange(sample);
    byId('viewer-verdict').classList.toggle('several', this.samples.isMulti);
    byId('viewer-verdict').classList.toggle('unchanged', !hasChange);
    if (!hasChange) {
      given.append(element('span', { className: 'hint', textContent: this.samples.changeOf(sample) }));
      byId('viewer-verdict').replaceChildren(given);
      return;
    }
    if (this.samples.isMulti) {
      byId('viewer-verdict').replaceChildren(given, side('Changes', this.changes.root));
      return;
    }
    const suggested = side('Suggested', name(this.samples.nameOf(sample.suggested), 'suggested'));
    byId('viewer-verdict').replaceChildren(given, icon('arrow'), suggested);
  }

  #facts(sample) {
    const fact = (name, ...value) =>
      element('div', {}, element('dt', { textContent: name }), element('dd', {}, ...value));
    const facts = [
      fact('Noise score', twoDecimals(sample.score)),
      fact('Confidence', percent(sample.confidence)),
      fact('Flagged', sample.flagged ? 'yes' : 'no'),
      fact('Decision', element('span', { id: 'viewer-decision', className: 'decision' })),
    ];
    const copies = this.samples.copiesOf(sample).slice(1);
    if (sample.group !== null) {
      const links = copies.flatMap((other) => [this.#link(other), ' ']);
      facts.push(fact('Copies', ...(links.length ? links : [`of sample ${sample.group}`])));
    }
    if (sample.outlier !== null) facts.push(fact('Outlier score', twoDecimals(sample.outlier)));
    if (sample.issue !== null) facts.push(fact('Image', sample.issue));
    facts.push(...sample.columns.map(([name, text]) => fact(name, text)));
    if (this.samples.isMulti)
      facts.push(fact('Labels then', element('span', { id: 'viewer-labels' })));
    byId('viewer-facts').replaceChildren(...facts);
  }

  /** To a copy, by its number and given label. */
  #link(sample) {
    return element('a', {
      href: `#sample=${sample.id}`,
      textContent: `#${sample.id} ${this.samples.nameOf(sample.given)}`,
    });
  }

  #choice([label, share], number, sample) {
    const isGiven = [sample.given].flat().includes(label);
    const isSuggested = [sample.suggested].flat().includes(label);
    const tag =
      isGiven && !(this.samples.isMulti && isSuggested)
        ? 'given'
        : isSuggested && !isGiven
          ? 'suggested'
          : '';
    const content = [
      element('span', { className: 'name', textContent: this.samples.names[label] }),
      element('span', { className: `tag ${tag}`, textContent: tag, hidden: !tag }),
      element('span', { className: 'share', textContent: percent(share) }),
      bar(share),
    ];
    // With several labels the digits are for the suggested changes.
    const key = element('kbd', { textContent: String((number + 1) % 10), 'aria-hidden': 'true' });
    const button = element(
      'button',
      {
        type: 'button',
        className: `choice${this.samples.isMulti ? ' several' : ''}`,
        'data-label': String(label),
        onclick: () => this.choose(label),
      },
      ...(this.samples.isMulti ? [] : [key]),
      ...content,
    );
    return element('li', {}, button);
  }

  /** Only what a browser opens as a page: never a script. */
  #original(sample) {
    const link = byId('viewer-original');
    link.hidden = true;
    if (!sample.href) return;
    try {
      const url = new URL(sample.href, document.baseURI);
      if (!['file:', 'http:', 'https:'].includes(url.protocol)) return;
    } catch {
      // A page that was opened from a blob has no place that the image could be beside.
      return;
    }
    link.hidden = false;
    link.href = sample.href;
  }
}
