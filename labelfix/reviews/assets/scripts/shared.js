// Decisions that several tabs make: every change starts from what is stored by now, whichever tab stored it.

/** Changes decisions and keeps them; a tab never writes over what it has not seen. */
class SharedDecisions {
  /** @param {Decisions} decisions @param {KeptDecisions} kept */
  constructor(decisions, kept) {
    Object.assign(this, { decisions, kept });
    this.catchUp();
  }

  /** Take over what other tabs have stored. @returns {boolean} whether there was anything */
  catchUp() {
    const news = this.kept.news(this.decisions.stored());
    if (news) this.decisions.restore(news);
    return news !== null;
  }

  /** @param {[number, string|undefined][]} changes @returns {number} as `Decisions.apply` */
  apply(changes) {
    return this.#keep(() => this.decisions.apply(changes));
  }

  /** @returns {number[]|null} as `Decisions.undo` */
  undo() {
    return this.#keep(() => this.decisions.undo());
  }

  /** @returns {number[]|null} as `Decisions.redo` */
  redo() {
    return this.#keep(() => this.decisions.redo());
  }

  #keep(change) {
    this.catchUp();
    const done = change();
    if (done) this.kept.save(this.decisions.stored());
    return done;
  }
}
