// Buttons for the mouse on the card under it: one set, which goes where the pointer is.

/** Accept, keep, remove and skip at the foot of a card. */
class QuickActions {
  /**
   * @param {any} root of the grid
   * @param {(card: any) => Sample|undefined} sampleOf
   * @param {(sample: Sample, decision: string) => void} decide
   */
  constructor(root, sampleOf, decide) {
    this.bar = byId('quick');
    this.keep = this.bar.querySelector('[data-decision="keep"]');
    root.addEventListener('pointerover', (event) => {
      const card = event.pointerType === 'mouse' && event.target.closest('.card');
      const sample = card && sampleOf(card);
      if (!sample || card.contains(this.bar)) return;
      this.keep.hidden = sample.given === null;
      this.bar.hidden = false;
      card.append(this.bar);
    });
    root.addEventListener('pointerleave', () => {
      this.bar.hidden = true;
    });
    this.bar.addEventListener('click', (event) => {
      const button = event.target.closest('button');
      const sample = sampleOf(this.bar.closest('.card'));
      if (button && sample) decide(sample, button.dataset.decision);
    });
  }
}
