// The organization of a page: it stands in the page's address, so it belongs to that tab.
// Beside it, what the pages keep in the browser.

const PARAMETER = 'organization';
const LAST_CHOICE_KEY = 'organization';
const SIGN_IN_KEY = 'sign-in-organization';

export const ORGANIZATION_PATTERN = /^[A-Za-z0-9_-]{1,64}$/;

// Storage may be switched off or full; the pages then only forget.
export function recall(area, key) {
  try {
    return window[area].getItem(key);
  } catch {
    return null;
  }
}

export function remember(area, key, value) {
  try {
    if (value === null) window[area].removeItem(key);
    else window[area].setItem(key, value);
  } catch {
    return;
  }
}

export function pagePath(path, organization) {
  return organization === null ? path : `${path}?${new URLSearchParams({ [PARAMETER]: organization })}`;
}

// Before what is said of an action: where it was.
export function inOrganization(organization) {
  return organization === null ? '' : `In ${organization}: `;
}

export function namedOrganization() {
  return new URLSearchParams(location.search).get(PARAMETER) || null;
}

export function nameOrganization(id) {
  const url = new URL(location.href);
  url.searchParams.set(PARAMETER, id);
  history.replaceState(history.state, '', url);
}

// What the member chose last, in any tab: for a page whose address names none.
export function lastChoice() {
  const id = recall('localStorage', LAST_CHOICE_KEY);
  return id !== null && ORGANIZATION_PATTERN.test(id) ? id : null;
}

export function chooseOrganization(id) {
  remember('localStorage', LAST_CHOICE_KEY, id);
  nameOrganization(id);
}

// A login may lead back to the plain path only, so the tab keeps the organization until the member is signed in.
export function keepForSignIn(id) {
  remember('sessionStorage', SIGN_IN_KEY, id);
}

export function restoreAfterSignIn() {
  const id = recall('sessionStorage', SIGN_IN_KEY);
  if (id !== null && namedOrganization() === null) nameOrganization(id);
}
