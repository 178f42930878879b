// Making and finding elements. Text goes in as text nodes only: names and labels are of unknown origin.

/** @param {string} id of an element that the templates made @returns {any} */
function byId(id) {
  return document.getElementById(id);
}

/**
 * A new element.
 * @param {string} tag
 * @param {Object<string, any>} [properties] of the element; `aria...` and `data...` names become attributes
 * @param {...(Node|string)} children
 * @returns {any}
 */
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes('-') || name === 'role') made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children);
  return made;
}

/** One of the drawings of the page's sprite. @param {string} name @returns {SVGElement} */
function icon(name) {
  const space = 'http://www.w3.org/2000/svg';
  const drawing = document.createElementNS(space, 'svg');
  drawing.setAttribute('class', 'icon');
  drawing.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS(space, 'use');
  use.setAttribute('href', `#icon-${name}`);
  drawing.append(use);
  return drawing;
}

/** A share of 1 as a horizontal bar. @param {number} share */
function bar(share) {
  const fill = element('span', { className: 'fill' });
  fill.style.transform = `scaleX(${Math.max(0, Math.min(1, share))})`;
  return element('span', { className: 'bar', 'aria-hidden': 'true' }, fill);
}
