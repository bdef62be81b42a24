// GET /api/v1/usage, with the reader's token where there is one.

const KEY = `token-meter-token ${location.pathname}`;

/** The ledger has not answered with usage; `status` is 0 where it has not answered at all. */
export class Refused extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (text) => sessionStorage.setItem(KEY, text),
  forget: () => sessionStorage.removeItem(KEY),
};

/** A function that asks the ledger, and the same question once only. Values may be lists. Throws Refused. */
export function asker(signal) {
  const asked = new Map();
  return (parameters) => {
    const query = new URLSearchParams();
    for (const [name, value] of Object.entries(parameters)) {
      for (const one of [value].flat()) if (one !== null) query.append(name, one);
    }
    const text = query.toString();
    if (!asked.has(text)) asked.set(text, ask(text, signal));
    return asked.get(text);
  };
}

async function ask(query, signal) {
  // The API server's proxy to Services takes Authorization for itself.
  const headers = token.get() ? { "X-Token-Meter-Token": token.get() } : {};
  let response, text;
  try {
    response = await fetch(`api/v1/usage?${query}`, { headers, signal, cache: "no-store" });
    text = await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The ledger does not answer.");
  }
  if (response.ok) return JSON.parse(text);
  throw new Refused(response.status, detail(text) || `${response.status} ${response.statusText}`);
}

/** The ledger's words, or the API server's where it stands between. */
function detail(text) {
  try {
    const body = JSON.parse(text);
    return body.detail || body.message || "";
  } catch {
    return text.slice(0, 200);
  }
}
