// Thumbnails stand at the end of the file in blocks of JSON; a block is read when one of its images is wanted.

/** Data URIs of the samples' images. */
class Thumbs {
  /** @param {number} size images in a block */
  constructor(size) {
    this.size = size;
    this.blocks = new Map();
  }

  /** @param {number} index of a sample @returns {string|null|undefined} null: no image; undefined: not yet read */
  of(index) {
    const number = Math.floor(index / this.size);
    if (!this.blocks.has(number)) {
      // While the file is still being read, a block that begins has not ended: only a follower shows that it has.
      const block = byId(`thumbs-${number}`);
      if (!block || (document.readyState === 'loading' && !byId(`thumbs-${number + 1}`))) return undefined;
      this.blocks.set(number, JSON.parse(block.textContent));
    }
    return this.blocks.get(number)[index % this.size];
  }

  /** Put a sample's image into an <img>, or show the text beside it. @param {Sample} sample */
  show(sample, image, placeholder) {
    const source = this.of(sample.index);
    image.classList.remove('pixels');
    image.hidden = !source;
    placeholder.hidden = source !== null;
    if (!source) return image.removeAttribute('src');
    image.onload = () => {
      // A few pixels, much enlarged, are shown as they are; photographs look better smooth.
      const pixels = Math.max(image.naturalWidth, image.naturalHeight);
      image.classList.toggle('pixels', pixels <= 48 && image.clientWidth > 3 * pixels);
    };
    image.src = source;
  }
}
