// One sample in the grid.

/** Makes the cards of the grid from the page's template. */
class Cards {
  /**
   * @param {Samples} samples
   * @param {Decisions} decisions
   * @param {Thumbs} thumbs
   */
  constructor(samples, decisions, thumbs) {
    Object.assign(this, { samples, decisions, thumbs });
    this.template = byId('card').content.firstElementChild;
  }

  /** @param {Sample} sample @returns {any} */
  make(sample) {
    const card = this.template.cloneNode(true);
    const part = (name) => card.querySelector(`.${name}`);
    card.dataset.id = sample.id;
    this.image(card, sample);
    card.classList.toggle('several', this.samples.isMulti);
    part('score').append('noise ', element('strong', { textContent: twoDecimals(sample.score) }));
    part('sure').append('conf. ', element('strong', { textContent: percent(sample.confidence) }));
    this.#labels(part('given'), part('suggested'), sample);
    part('odds').append(...sample.likely.slice(0, 3).map((odds) => this.#odds(odds, sample)));
    part('file').textContent = sample.file;
    part('file').title = sample.file;
    part('id').textContent = `#${sample.id}`;
    part('id').href = `#sample=${sample.id}`;
    part('id').setAttribute('aria-label', `Large view of sample ${sample.id}`);
    const mark = markOf(sample);
    part('noticed').textContent = mark;
    part('noticed').hidden = !mark;
    if (sample.columns.length) part('no-image').replaceChildren(...sample.columns.map(columnLine));
    this.state(card, sample);
    return card;
  }

  /** @param {any} card @param {Sample} sample */
  image(card, sample) {
    this.thumbs.show(sample, card.querySelector('img'), card.querySelector('.no-image'));
  }

  /** Show what is decided. @param {any} card @param {Sample} sample */
  state(card, sample) {
    const decision = this.decisions.made.get(sample.id);
    if (card.dataset.decision === (decision ?? '')) return;
    card.dataset.decision = decision ?? '';
    if (this.samples.isMulti)
      card.querySelector('.suggested').replaceChildren(...changeChips(this.samples, sample, decision));
    const badge = card.querySelector('.badge');
    card.dataset.state = decision ? kindOf(decision) : '';
    badge.hidden = !decision;
    badge.replaceChildren(...(decision ? [icon(kindOf(decision)), this.#badge(sample, decision)] : []));
    card.setAttribute('aria-label', spoken(this.decisions, sample));
  }

  /** Short: a chosen class says more than that something was changed. */
  #badge(sample, decision) {
    const kind = kindOf(decision);
    if (this.samples.isMulti) return DONE[kind];
    return kind === 'change' ? this.samples.nameOf(this.decisions.labelOf(sample, decision)) : DONE[kind];
  }

  #labels(given, suggested, sample) {
    if (this.samples.isMulti) {
      given.textContent = this.samples.nameOf(sample.given);
    } else {
      given.textContent = this.samples.nameOf(sample.given);
      given.classList.toggle('none', sample.given === null);
      const hasChange = this.samples.hasChange(sample);
      const text = hasChange ? this.samples.nameOf(sample.suggested) : this.samples.changeOf(sample);
      if (hasChange) suggested.append(element('span', { className: 'arrow', textContent: '→' }));
      suggested.append(element('span', { className: 'name', textContent: text }));
      given.classList.toggle('stays', !hasChange);
      suggested.classList.toggle('unchanged', !hasChange);
    }
    given.title = this.samples.nameOf(sample.given);
    if (!this.samples.isMulti) suggested.title = this.samples.changeOf(sample);
  }

  #odds([label, share], sample) {
    const name = this.samples.names[label];
    const holds = (labels) => (this.samples.isMulti ? Boolean(labels?.includes(label)) : label === labels);
    const role = holds(sample.given) ? 'is-given' : holds(sample.suggested) ? 'is-suggested' : '';
    return element(
      'span',
      { className: `odd ${role}`, title: name },
      element('span', { className: 'name', textContent: name }),
      bar(share),
      element('span', { className: 'share', textContent: percent(share) }),
    );
  }
}
