// /integrations/{service}/callback: hands the provider's answer to the API, once, and says how it went. It does so by itself
// only for a flow that this browser began; for any other it names the organization and asks first.

// Before anything else, and without waiting for another module: the code leaves the address bar and the history.
const query = new URLSearchParams(location.search);
history.replaceState(null, '', location.pathname);

const STATE_PATTERN = /^[A-Za-z0-9_-]{43}\.([A-Za-z0-9_-]{1,64})$/;
const PATH_PATTERN = /^\/integrations\/([a-z][a-z0-9_]{0,31})\/callback$/;
const TITLES = {
  connecting: 'Connecting integration…',
  asking: 'Connect this account?',
  connected: 'Integration connected',
  failed: 'Failed to connect integration',
  idle: 'Nothing left to do here',
};
const SUCCESS_SHOWN_FOR = 800;
const NAMES_WAIT = 1000;

// The answer that would tell whether the account was connected was not had.
const UNCERTAIN = ['no_answer', 'timeout', 'offline', 'overloaded', 'store_unavailable', 'internal_error'];
// Another attempt by the same visitor would end the same way.
const FINAL = ['unauthenticated', 'organization_forbidden', 'service_not_found', 'misdirected', 'provider_misconfigured', 'account_mismatch'];

const title = document.getElementById('title');
const content = document.getElementById('content');
const actions = document.getElementById('actions');

function enter(phase) {
  document.querySelector('main').dataset.phase = phase;
  title.textContent = TITLES[phase];
  document.title = TITLES[phase];
}

const modules = await Promise.all([import('./common.js'), import('./flow.js'), import('./organization.js')]).catch(() => null);
if (modules === null) {
  enter('failed');
  content.textContent = 'This page could not be loaded completely, so nothing was connected. Check your network connection, go back to Integrations and connect again.';
  const link = document.createElement('a');
  link.href = '/integrations';
  link.className = 'button';
  link.textContent = 'Back to integrations';
  actions.replaceChildren(link);
} else {
  await finish(Object.assign({}, ...modules));
}

async function finish({
  ApiError, element, icon, inOrganization, inWords, leaveConnectedNote, openConsentPage, organizationPath, pagePath,
  reference, request, setBusy, showSignIn, takeNote, toast, userWords, whenSlow,
}) {
  const service = PATH_PATTERN.exec(location.pathname)?.[1] ?? null;
  let noted = false;
  // The organization of a link that another person may have sent leads no further than this page, unless the member agreed.
  let agreed = false;
  const known = () => (noted || agreed ? organization : null);
  const back = () => element('a', { class: 'button', href: pagePath('/integrations', known()) }, 'Back to integrations');

  function only(name) {
    const values = query.getAll(name);
    return values.length === 1 ? values[0] : null;
  }

  const error = only('error');
  const code = only('code');
  const state = only('state') ?? '';
  const organization = STATE_PATTERN.exec(state)?.[1] ?? null;
  const repeated = ['code', 'state', 'error', 'iss'].some((name) => query.getAll(name).length > 1);
  const body = error === null ? { code, state } : { error, state };
  if (query.has('iss')) body.iss = only('iss');

  function sign(name) {
    document.getElementById('sign').replaceChildren(icon(name));
  }

  function beginAgain(label, replaceWith, kind) {
    const button = element('button', { type: 'button', class: `button ${kind}` }, label);
    button.addEventListener('click', async () => {
      if (button.getAttribute('aria-disabled') === 'true') return;
      setBusy(button, true, 'Connecting…');
      try {
        await openConsentPage(organization, service, replaceWith);
      } catch (failure) {
        setBusy(button, false, label);
        const { name } = await names;
        if (failure.code === 'unauthenticated') await fail(failure);
        else toast('error', inOrganization(organization) + inWords(failure, name), failure);
      }
    });
    return button;
  }

  async function fail(failure) {
    const { name } = await names;
    enter('failed');
    sign('cross');
    actions.replaceChildren();
    if (failure.code === 'unauthenticated') {
      actions.replaceChildren(back());
      await showSignIn(content, failure, {
        returnTo: '/integrations',
        organization: known(),
        sentence: 'You are not signed in, so nothing was connected. After signing in, connect again.',
      });
      title.focus();
      return;
    }
    const chosen = failure.problem?.offered?.oauth_user_id ?? null;
    content.replaceChildren(element('p', null, inWords(failure, name)));
    if (UNCERTAIN.includes(failure.code)) {
      content.append(element('p', null, 'It is not known whether the account was connected: go back to Integrations to see.'));
    }
    if (noted && chosen !== null) {
      content.append(element('p', null, 'Choose Replace to sign in once more with the account that you chose, and put it in the place of the other.'));
    }
    content.append(reference(failure) ?? '');
    if (noted && chosen !== null) actions.append(beginAgain('Replace', chosen, 'danger'));
    if (noted && !FINAL.includes(failure.code)) actions.append(beginAgain('Try again', null, 'primary'));
    actions.append(back());
    title.focus();
  }

  async function succeed({ integration }) {
    const { name, me } = await names;
    const account = integration.oauth_email || integration.oauth_user_id;
    const words = [`The ${name} account `, element('strong', null, account), ' is now connected in ', element('strong', null, organization)];
    if (me) words.push(' for ', element('strong', null, userWords(me)));
    enter('connected');
    sign('check');
    content.replaceChildren(element('p', null, ...words, '.'));
    if (integration.missing_scopes?.length > 0) {
      content.append(element('p', null, 'Some permissions were left out. Integrations shows which MCPs lack them.'));
    }
    leaveConnectedNote(organization, service);
    toast('success', `${inOrganization(organization)}${name} connected.`);
    setTimeout(() => location.replace(pagePath('/integrations', organization)), SUCCESS_SHOWN_FOR);
  }

  async function post() {
    const settled = whenSlow(() => {
      content.replaceChildren(element('p', null, 'The provider is slow to answer. Please keep this page open.'));
    });
    try {
      await succeed(await request('POST', organizationPath(organization, `integrations/${service}/callback`), body));
    } catch (failure) {
      await fail(failure);
    } finally {
      settled();
    }
  }

  async function ask() {
    const { name, offered } = await names;
    if (offered && !offered.some((one) => one.service === service)) {
      await fail(new ApiError('service_not_found'));
      return;
    }
    enter('asking');
    sign('warning');
    content.replaceChildren(
      element('p', null, `${name} sent you back to connect an account in the organization `, element('strong', null, organization), '.'),
      element('p', null, 'This browser did not begin that on the Integrations page. Connect only if you began it in another application.'),
    );
    const connect = element('button', { type: 'button', class: 'button primary' }, `Connect in ${organization}`);
    connect.addEventListener('click', async () => {
      agreed = true;
      enter('connecting');
      document.getElementById('sign').replaceChildren();
      content.replaceChildren(element('p', null, 'This takes a moment.'));
      actions.replaceChildren();
      title.focus();
      await post();
    }, { once: true });
    actions.replaceChildren(connect, back());
    title.focus();
  }

  if (!query.has('code') && !query.has('error')) {
    enter('idle');
    sign('check');
    content.replaceChildren(element('p', null, 'This sign-in was handled already, or the page was opened without one. Integrations shows what is connected.'));
    actions.replaceChildren(back());
    return;
  }

  // Names only make the words better; the outcome does not wait for them longer than this.
  const get = (path) => request('GET', path).catch(() => null);
  const later = new Promise((resolve) => setTimeout(resolve, NAMES_WAIT, []));
  const names = Promise.race([Promise.all([get('/api/me'), get('/api/services')]), later]).then(([me, offered]) => ({
    me: me ?? null,
    offered: offered?.services,
    name: offered?.services?.find((one) => one.service === service)?.name
      ?? (service ? service[0].toUpperCase() + service.slice(1) : 'The provider'),
  }));

  if (service === null) return fail(new ApiError('service_not_found'));
  const declined = () => fail(new ApiError(error === 'access_denied' ? 'consent_declined' : 'authorization_failed'));
  if (repeated) return fail(new ApiError('state_invalid'));
  if (organization === null) return error === null ? fail(new ApiError('state_invalid')) : declined();

  const place = document.getElementById('place');
  place.replaceChildren('Organization ', element('strong', null, organization));
  place.hidden = false;
  noted = await takeNote(state, organization, service);
  if (noted) return post();
  return error === null ? ask() : declined();
}
