// Numbers, times and elements. Whatever comes from an event gets into the page by `textContent` alone.

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") made.className = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

/** Sets a text only if it differs: what stays costs no layout. */
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const whole = new Intl.NumberFormat("en");
const tenths = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const hundredths = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });

export const count = (number) => whole.format(number);
export const rate = (number) => (number >= 10 ? tenths : hundredths).format(number);
export const percent = (share) => hundredths.format(share * 100);

export function milliseconds(number) {
  if (number === null || number === undefined) return "–";
  if (number >= 1000) return `${hundredths.format(number / 1000)} s`;
  return `${(number >= 10 ? tenths : hundredths).format(number)} ms`;
}

/** How long ago, short: 12 s, 4 min, 3 h, 2 d. */
export function age(passed) {
  const seconds = Math.max(0, Math.round(passed / 1000));
  if (seconds < 90) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.round(minutes / 60);
  return hours < 36 ? `${hours} h` : `${Math.round(hours / 24)} d`;
}

export function clock(time) {
  const at = new Date(time);
  return [at.getHours(), at.getMinutes(), at.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}

/** Makes the children of `parent` behind `head` those of `items`, by key; what stays is kept, with its focus. */
export function arrange(parent, items, key, make, update, head = null) {
  let at = head ? head.nextElementSibling : parent.firstElementChild;
  const kept = new Map();
  for (let child = at; child; child = child.nextElementSibling) kept.set(child.dataset.key, child);
  for (const item of items) {
    const name = key(item);
    let child = kept.get(name);
    if (child) kept.delete(name);
    else {
      child = make(item);
      child.dataset.key = name;
    }
    update(child, item);
    if (child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
  }
  for (const child of kept.values()) child.remove();
}
