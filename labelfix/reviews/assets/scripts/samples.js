// What a sample is, and what a page shows of it.

/**
 * @typedef {object} Sample one row of the run
 * @property {number} id row in the source, from 0
 * @property {string} file name relative to the source
 * @property {number|number[]|null} given class, or classes where a row has several; null: unlabelled
 * @property {number|number[]} corrected class or classes, as the method has them
 * @property {number|number[]} suggested class or classes that accepting takes, `given` where no change is suggested
 * @property {number|null} score of noise, 0 to 1, high is suspect
 * @property {number|null} confidence in `suggested`, 0 to 1
 * @property {boolean} flagged by the run
 * @property {[number, number][]} likely classes and their probabilities, falling, up to ten
 * @property {number[]} [added] classes that `suggested` has beside `given`, of rows with several
 * @property {number[]} [removed] classes that it has no more, of rows with several
 * @property {number|null} group of copies: the first row that shows the same
 * @property {boolean} two_labels whether its copies were given several labels
 * @property {boolean} leak whether its copies lie on several sides of a split
 * @property {number|null} outlier score, 0 to 1
 * @property {boolean} odd whether that is high
 * @property {string|null} issue of the image
 * @property {[string, string][]} columns of the source, where it has no images
 * @property {string|null} href of the original image
 * @property {number} index in the page; added here
 * @property {string} search file name in lower case; added here
 * @property {string} pair key of given and suggested label, '' where they are one; added here
 */

/** The page's samples, with what is looked up for each over and over. */
class Samples {
  /** @param {{run: {id: string, task: string}, class_names: string[], samples: Sample[]}} data */
  constructor(data) {
    this.names = data.class_names;
    this.isMulti = data.run.task === 'multi';
    this.all = data.samples;
    this.byId = new Map();
    this.all.forEach((sample, index) => {
      sample.index = index;
      sample.search = sample.file.toLowerCase();
      sample.pair = pairKey(sample, this.isMulti);
      this.byId.set(sample.id, sample);
    });
  }

  /** A sample and its copies on this page. @param {Sample} sample @returns {Sample[]} */
  copiesOf(sample) {
    if (sample.group === null || this.isMulti) return [sample];
    return [sample, ...this.all.filter((other) => other.group === sample.group && other !== sample)];
  }

  /** @param {number|number[]|null} label @returns {string} */
  nameOf(label) {
    if (label === null) return 'unlabelled';
    if (Array.isArray(label))
      return label.length ? label.map((one) => this.names[one]).join(', ') : 'no label';
    return this.names[label];
  }

  /**
   * Whether there is another label than the given one to accept. Rows with several labels always say what changes.
   * @param {Sample} sample
   */
  hasChange(sample) {
    return this.isMulti || sample.suggested !== sample.given;
  }

  /** "cat → dog", or "+ dog, − cat" where rows have several labels. @param {Sample} sample */
  changeOf(sample) {
    if (!this.hasChange(sample)) return 'no change suggested';
    if (!this.isMulti) return `${this.nameOf(sample.given)} → ${this.nameOf(sample.suggested)}`;
    const signs = [
      ...sample.added.map((one) => `+ ${this.names[one]}`),
      ...sample.removed.map((one) => `− ${this.names[one]}`),
    ];
    return signs.length ? signs.join(', ') : 'no change';
  }
}

/** @param {Sample} sample @param {boolean} isMulti @returns {string} equal for samples with the same change, '' for none */
function pairKey(sample, isMulti) {
  if (isMulti) return sample.added.length + sample.removed.length ? `+${sample.added}-${sample.removed}` : '';
  return sample.given === sample.suggested ? '' : `${sample.given}>${sample.suggested}`;
}

/** Every class that a sample is about. @param {Sample} sample @returns {number[]} */
function classesOf(sample) {
  const labels = /** @type {(number|null)[]} */ ([sample.given, sample.suggested].flat());
  return [...new Set(labels)].filter((label) => label !== null);
}
