// decisions.csv: what labelfix reads back.

const OPEN_COLUMN = 'undecided_labels';

/**
 * Put an apostrophe before what a spreadsheet of any locale would run as a formula, also after what separates cells or
 * lines inside a text; plain numbers stay. The same rule as in every CSV file of labelfix, which takes the apostrophes
 * away again when it reads one.
 * @param {string} text
 */
function escapeCell(text) {
  const runs = /^'*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n]/;
  const number = /^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$/;
  const inside = text.replaceAll(/([;\t\r\n]"*)('*[=+\-@\uff1d\uff0b\uff0d\uff20])/g, "$1'$2");
  return runs.test(text) && !number.test(text) ? `'${inside}` : inside;
}

/** Quotes round a cell that needs them (RFC 4180, and other separators of cells). @param {string} cell */
function quoteCell(cell) {
  return /[",;\t\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell;
}

/** The texts of a JSON list of them, null for any other text. @param {string} text @returns {string[]|null} */
function jsonTexts(text) {
  if (!text.startsWith('[')) return null;
  try {
    const found = JSON.parse(text);
    return Array.isArray(found) && found.every((one) => typeof one === 'string') ? found : null;
  } catch {
    return null;
  }
}

/**
 * Labels as one text: between semicolons, or as a JSON list where they could not be told apart again. labelfix reads
 * both.
 * @param {string[]} labels
 */
function listText(labels) {
  const text = labels.join(';');
  const isPlain = labels.every((label) => !label.includes(';') && label === label.trim()) && !jsonTexts(text);
  return isPlain ? text : JSON.stringify(labels);
}

/**
 * The decided samples by sample id, one line each; where some are decided on partly, with what is open of them.
 * @param {Samples} samples
 * @param {Decisions} decisions
 */
function decisionsCsv(samples, decisions) {
  const ids = [...decisions.made.keys()].sort((a, b) => a - b);
  const names = (labels) => labels.map((one) => samples.names[one]);
  const text = (labels) => (samples.isMulti ? listText(names(labels)) : names(labels).join());
  const hasOpen = [...decisions.made.values()].some((decision) => !isDone(decision));
  const lines = ids.map((id) => {
    const sample = samples.byId.get(id);
    const decision = decisions.made.get(id);
    const label = text([decisions.labelOf(sample, decision) ?? []].flat());
    const open = hasOpen ? [text(openOf(sample, decision))] : [];
    return [String(id), sample.file, kindOf(decision), label, ...open]
      .map((cell) => quoteCell(escapeCell(cell)))
      .join(',');
  });
  return [`sample_id,file_name,decision,label${hasOpen ? `,${OPEN_COLUMN}` : ''}`, ...lines, ''].join('\n');
}

/** The classes whose change is not decided on. @param {Sample} sample @param {string} decision @returns {number[]} */
function openOf(sample, decision) {
  if (isDone(decision)) return [];
  return changesOf(sample, decision)
    .filter(({ state }) => state === 'open')
    .map(({ label }) => label);
}

/** Hand a text to the reader as a file. @param {string} name of the file @param {string} text of a CSV file */
function offerCsv(name, text) {
  const url = URL.createObjectURL(new Blob([text], { type: 'text/csv' }));
  element('a', { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60000);
}
