/**
 * What runs in the browser, on the page of `ring-page`: it asks for the page anew and puts the new one in place of the
 * old. Text, and no code of the server's, so it may use a browser's timers.
 */

/** How often an open page is made anew, in ms. */
const REFRESH_MS = 2000;

export const RING_SCRIPT = `
const stale = document.getElementById('stale');
setInterval(async () => {
  if (document.hidden) return;
  try {
    const answer = await fetch('/', { signal: AbortSignal.timeout(${REFRESH_MS}) });
    if (!answer.ok) throw answer.status;
    const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
    document.querySelector('main').replaceWith(page.querySelector('main'));
    stale.hidden = true;
  } catch {
    stale.hidden = false;
  }
}, ${REFRESH_MS});
`;
