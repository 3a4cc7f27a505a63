// The frame of a page that lists something of one organization: loading, its failures, the choice of the organization.

import {
  announce, byId, clearToasts, element, inWords, organizationPath, reference, request, setBusy, showSignIn, signedIn, timeAgo,
  toast, userName, userWords, whenSlow,
} from './common.js';
import {
  chooseOrganization, inOrganization, lastChoice, namedOrganization, nameOrganization, ORGANIZATION_PATTERN, pagePath,
  restoreAfterSignIn,
} from './organization.js';

// The organization that the address names is shown or refused. Only where it names none, another one may be taken.
async function loadAll(resource) {
  const named = namedOrganization();
  const likely = named ?? lastChoice();
  const list = (id) => request('GET', organizationPath(id, resource));
  const early = likely !== null && ORGANIZATION_PATTERN.test(likely) ? list(likely) : null;
  early?.catch(() => null);
  const [me, { services }] = await Promise.all([request('GET', '/api/me'), request('GET', '/api/services')]);
  const ids = me.organizations.map(({ id }) => id);
  const organization = named ?? (ids.includes(likely) ? likely : ids[0] ?? null);
  const member = ids.includes(organization);
  const listed = member ? await (organization === likely && early ? early : list(organization)) : {};
  return { me, services, organization, member, list: listed[resource] ?? [] };
}

function emptyPanel(heading, words) {
  return element('section', { class: 'panel' }, element('h2', null, heading), element('p', null, words));
}

function noMembership({ me, organization }) {
  if (me.organizations.length === 0) {
    return emptyPanel('You are not a member of any organization', 'Ask an administrator to add you to one, then choose Refresh.');
  }
  // The address may come from anywhere: only what can be an id is repeated.
  const name = ORGANIZATION_PATTERN.test(organization) ? `the organization ${organization}` : 'the organization in this address';
  return emptyPanel(
    `You are not a member of ${name}`,
    'Choose one of your organizations above, or ask an administrator to add you and choose Refresh.',
  );
}

// Every link to the other pages names the organization of this one.
function carryOrganization(organization) {
  for (const link of document.querySelectorAll('nav a')) link.href = pagePath(link.pathname, organization);
}

export function listPage({ resource, title, render }) {
  const content = byId('content');
  const notice = byId('notice');
  const refresh = byId('refresh');
  const skeleton = content.querySelector('.skeleton').cloneNode(true);
  let shown = null;
  let loadedAt = null;
  let latest = 0;
  let inFlight = 0;

  function panel(heading, error, words) {
    const retry = element('button', { type: 'button', class: 'button primary', onclick: () => load('retry') }, 'Retry');
    return element(
      'section',
      { class: 'panel', 'aria-labelledby': 'panel-title' },
      element('h2', { id: 'panel-title' }, heading),
      element('p', null, words),
      shown !== null && element('p', { class: 'muted' }, 'What you see below was loaded ', timeAgo(loadedAt), '.'),
      reference(error),
      element('p', { class: 'panel-action' }, retry),
    );
  }

  async function showFailure(error, reason) {
    if (error.code === 'unauthenticated') {
      shown = null;
      content.replaceChildren();
      const body = element('div', { class: 'panel-body' });
      notice.replaceChildren(element(
        'section',
        { class: 'panel', 'aria-labelledby': 'panel-title' },
        element('h2', { id: 'panel-title' }, 'You are not signed in'),
        body,
      ));
      announce('You are not signed in.');
      await showSignIn(body, error, {
        returnTo: location.pathname,
        organization: namedOrganization(),
        sentence: `Sign in to see your ${title}.`,
      });
      return;
    }
    const heading = `Failed to load ${title}`;
    notice.replaceChildren(panel(heading, error, inWords(error)));
    if (shown === null) content.replaceChildren();
    announce(`${heading}. ${inWords(error)}`);
    if (reason === 'retry') notice.querySelector('button').focus();
  }

  function showOrganizations({ me, organization, member }) {
    const place = byId('organization');
    const ids = me.organizations.map(({ id }) => id);
    place.hidden = ids.length === 0;
    if (member && ids.length === 1) {
      place.replaceChildren(element('span', { class: 'muted' }, 'Organization '), element('strong', null, organization));
      return;
    }
    const values = member ? ids : ['', ...ids];
    const current = place.querySelector('select');
    if (current && values.join(' ') === [...current.options].map(({ value }) => value).join(' ')) {
      current.value = member ? organization : '';
      return;
    }
    const options = values.map((id) => element('option', { value: id, disabled: id === '' }, id || 'Choose…'));
    const select = element('select', { id: 'organization-choice' }, ...options);
    select.value = member ? organization : '';
    select.addEventListener('change', () => {
      chooseOrganization(select.value);
      carryOrganization(select.value);
      load('switch');
    });
    const focused = current !== null && current === document.activeElement;
    place.replaceChildren(element('label', { for: 'organization-choice', class: 'muted' }, 'Organization'), select);
    if (focused) select.focus();
  }

  function show(page, reason) {
    const refocus = reason === 'retry' && notice.contains(document.activeElement);
    notice.replaceChildren();
    signedIn();
    byId('user').replaceChildren(element('span', { class: 'unseen' }, 'Signed in as '), userName(page.me));
    byId('user').title = userWords(page.me);
    showOrganizations(page);
    if (page.member) {
      nameOrganization(page.organization);
      carryOrganization(page.organization);
    }
    loadedAt = new Date().toISOString();
    const text = JSON.stringify(page);
    if (shown !== text) {
      shown = text;
      if (page.member) render(page, content);
      else content.replaceChildren(noMembership(page));
    }
    if (refocus) byId('title').focus();
  }

  // A reason is one of: open, refresh, retry, switch, look (the tab is looked at again), again (what is on its way
  // is older than what an action just learned).
  async function load(reason) {
    const urgent = reason === 'switch' || reason === 'again';
    if (refresh.getAttribute('aria-disabled') === 'true' && !urgent) return;
    const turn = ++latest;
    inFlight += 1;
    if (reason !== 'look') setBusy(refresh, true, reason === 'refresh' ? 'Refreshing…' : 'Refresh');
    if (reason !== 'look') announce(`Loading ${title}…`);
    content.setAttribute('aria-busy', 'true');
    if (reason === 'retry') setBusy(notice.querySelector('button'), true, 'Loading…');
    // What belongs to the organization chosen before must not be acted upon.
    if (reason === 'switch') shown = null;
    if (shown === null) content.replaceChildren(skeleton.cloneNode(true));
    const settled = whenSlow(() => reason !== 'look' && announce(`Still loading ${title}. The server is slow to answer.`));
    try {
      const page = await loadAll(resource);
      if (turn !== latest) return;
      show(page, reason);
      const loaded = `${title[0].toUpperCase()}${title.slice(1)} are up to date.`;
      if (reason === 'refresh') toast('success', inOrganization(page.member ? page.organization : null) + loaded);
      else if (reason !== 'look') announce(loaded);
    } catch (error) {
      if (turn === latest) await showFailure(error, reason);
    } finally {
      settled();
      inFlight -= 1;
      if (inFlight === 0) {
        setBusy(refresh, false, 'Refresh');
        content.removeAttribute('aria-busy');
      }
    }
  }

  refresh.addEventListener('click', () => {
    clearToasts();
    load('refresh');
  });
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState === 'visible') load('look');
  });
  window.addEventListener('pageshow', (event) => {
    if (event.persisted) load('look');
  });
  window.addEventListener('online', () => {
    if (notice.hasChildNodes()) load('look');
  });
  restoreAfterSignIn();
  load('open');

  return {
    changed() {
      shown = '';
      if (inFlight > 0) load('again');
    },
    reload: () => load('look'),
    signedOut: (error) => showFailure(error, 'action'),
  };
}
