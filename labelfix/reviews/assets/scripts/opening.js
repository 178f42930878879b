// A decisions.csv to go on with: what csv.js writes, and labelfix reads, read back.

/** What `escapeCell` was given. @param {string} cell */
function unescapeCell(cell) {
  const text = cell.replaceAll(/([;\t\r\n]"*)'('*[=+\-@\uff1d\uff0b\uff0d\uff20])/g, '$1$2');
  const isEscaped = text.startsWith("'") && /^'*[=+\-@\uff1d\uff0b\uff0d\uff20\t\r\n]/.test(text.slice(1));
  return isEscaped ? text.slice(1) : text;
}

/** The rows of a CSV text (RFC 4180), each a list of cells. @param {string} text @returns {string[][]} */
function csvRows(text) {
  const rows = [];
  let row = [];
  const cells = /(?:"((?:[^"]|"")*)"|([^,\r\n]*))(,|\r\n|\n|\r|$)/g;
  const plain = text.replace(/^\ufeff/, '');
  while (cells.lastIndex < plain.length) {
    const found = /** @type {RegExpExecArray} */ (cells.exec(plain));
    row.push(unescapeCell(found[1] === undefined ? found[2] : found[1].replaceAll('""', '"')));
    if (found[3] === ',') continue;
    if (row.some((cell) => cell.trim())) rows.push(row);
    row = [];
  }
  // The last line may end in a comma, without a line break.
  if (row.some((cell) => cell.trim())) rows.push(row);
  return rows;
}

/**
 * What a decisions.csv decides on the samples of this page.
 * @param {string} text
 * @param {Decisions} decisions
 * @returns {{changes: [number, string][], others: number}|null} how many rows are of other samples; null for no such file
 */
function decisionsIn(text, decisions) {
  const [header = [], ...rows] = csvRows(text);
  const { samples } = decisions;
  const columns = ['sample_id', 'file_name', 'decision', 'label', OPEN_COLUMN];
  const places = columns.map((name) => header.indexOf(name));
  if (places[0] < 0 || places[2] < 0) return null;
  const found = rows.map((row) => {
    const [id, file, word, label, open] = places.map((place) => row[place] ?? '');
    const decision = word.trim().toLowerCase();
    const sample = /^\d+(\.0+)?$/.test(id.trim()) ? samples.byId.get(Number(id)) : undefined;
    if (!sample || (places[1] >= 0 && file !== sample.file) || !Object.hasOwn(DONE, decision)) return null;
    const index = samples.names.indexOf(label);
    const isPlain = index < 0 || ['skip', 'remove'].includes(decision);
    const ofOne = () => (isPlain ? decision : decisions.choosing(sample, index));
    const meant = samples.isMulti ? meantBy(samples, sample, decision, label, open) : ofOne();
    return meant !== undefined && decisions.allows(sample, meant) ? [sample.id, meant] : null;
  });
  const changes = /** @type {[number, string][]} */ (found.filter((change) => change !== null));
  return { changes, others: rows.length - changes.length };
}

/** The classes of a text as `listText` writes it, -1 for what is none. @param {Samples} samples @param {string} text @returns {number[]} */
function classesIn(samples, text) {
  const place = (name) => samples.names.indexOf(name);
  const labels = jsonTexts(text.trim()) ?? text.split(';');
  return labels
    .filter((one) => one.trim())
    .map((one) => (place(one) < 0 ? place(one.trim()) : place(one)));
}

/** What a line means of a row with several labels; undefined for names that are no class. */
function meantBy(samples, sample, decision, label, open) {
  if (['skip', 'remove'].includes(decision)) return decision;
  const [labels, undecided] = [label, open].map((text) => classesIn(samples, text));
  if ([...labels, ...undecided].includes(-1)) return undefined;
  // Where nothing was suggested, what a decision says of single classes is nothing.
  return decisionBy(sample, labels, undecided) ?? (decision === 'partly' ? undefined : decision);
}

/**
 * The button that opens a file: its decisions on the samples of this page are one step of the history.
 * @param {Decisions} decisions
 * @param {(changes: [number, string][], text: string) => void} apply
 * @param {{say: (text: string) => void}} announcer
 */
function wireOpening(decisions, apply, announcer) {
  const field = byId('csv-file');
  byId('open-csv').addEventListener('click', () => field.click());
  field.addEventListener('change', async () => {
    const text = await field.files[0]?.text();
    // The same file may be opened again.
    field.value = '';
    if (text === undefined) return;
    const found = decisionsIn(text, decisions);
    if (!found) {
      announcer.say('This is no decisions.csv: it has no columns sample_id and decision');
      return;
    }
    const { changes, others } = found;
    const rest = others
      ? `. ${counted(others, 'row')} of it ${others === 1 ? 'is' : 'are'} not of this page: keep that file too`
      : '';
    apply(changes, `Opened ${counted(changes.length, 'decision')}${rest}`);
  });
}
