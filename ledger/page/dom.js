// Elements made of text: nothing that the ledger tells is ever read as markup.

/** The element of this id. */
export const by = (id) => document.getElementById(id);

/** A new element; children are elements or texts, attributes that are false or null are left out. */
export function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

/** A number for people, with the number itself beside it for programs. */
export const number = (value, text) => make("data", { value, title: value.toLocaleString("en") }, text);

/** Text for eyes elsewhere only where a value is missing: a request without a user has no name. */
export const name = (text, none = "no user") => (text === "" ? make("i", {}, none) : make("bdi", {}, text));

/** Put the new children in the place of the old ones, with the focus where it was. */
export function replace(parent, ...children) {
  const key = parent.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  parent.replaceChildren(...children);
  if (key !== undefined) [...parent.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key)?.focus();
}
