"""Every fault of a provider at every one of its endpoints, for every route and command that calls it.

Each case has its own user, account and fault, and most of them wait for a deadline, so many run at once. Faults of the
connection itself hit all calls, so they come afterwards, one after the other, each on many routes together.
"""

import collections
import concurrent.futures
import itertools
import os
import socket
import time
import traceback

import keys
from checks import GMAIL, dump
from drill import Drill
from harness import Product
from leaks import Leak
from people import KeyRing, store
from programs import EVERY_SCOPE, Caller
from provider_faults import CONNECTION, Fault, at_discovery, at_keys, at_revoke, at_token, at_userinfo
from provider_routes import ORGANIZATION, ROUTES, Case, CheckDiscovery, Connect, Disconnect, Gateway, Keys, Plain, \
    Reconnect, Remove, Rotated, Token, TokenEarly, ValidateRefresh, ValidateUserinfo, Wrong
from upstream import Upstream

AT_ONCE = 48
FLOOD_SECONDS = 1
ON_CONNECTIONS = (ValidateRefresh, Token, Connect, Disconnect, CheckDiscovery, TokenEarly, Gateway, Reconnect, ValidateUserinfo,
                  Plain, Remove)


class Provided(Product):
    """With a service that has no keys, and one for each of `lanes`, whose keys no worker has yet."""

    def __init__(self, directory, lanes):
        self.upstream = Upstream()
        self.lanes = lanes
        super().__init__(directory, services={name: {} for name in ("plain", *lanes)},
                         environment={"LIMIT_AUTH_LINK": "0", "LIMIT_VALIDATE": "0"})

    def _environment(self):
        def mcps(service):
            return [{"mcp": f"{service}_mail", "name": "Mail", "scopes": [GMAIL]}]

        self._services["plain"] = {"jwks_uri": None, "client_auth": "basic", "mcps": mcps("plain")}
        for lane in self.lanes:
            self._services[lane] = {"jwks_uri": f"{self.stand_in.https_base}/lane/{lane}/oauth2/v3/certs", "mcps": mcps(lane)}
        environment = super()._environment()
        self.write_provider(mcps=[{**each, "upstream": self.upstream.address} for each in self.stand_in.provider["mcps"]])
        return environment

    def stop(self, check=True):
        try:
            super().stop(check)
        finally:
            self.upstream.stop()


class World:
    """The product, and what all cases share."""

    def __init__(self, product, drill):
        self.product = product
        self.drill = drill
        self.folder = os.path.join(product.directory, "check")
        os.makedirs(self.folder)
        self.caller = Caller(product)
        self.workers = product.hosts[0].workers()
        self.mismatches = []
        self._numbers = 0

    def printed(self, case, answer):
        self.product.scanner.check((answer.stdout + answer.stderr).encode(), f"what {case} printed")

    # Cases begin with what they need

    def seed(self, cases):
        """A session for each, accounts at the provider, and a connection for those routes that want one."""
        accounts = iter(self.product.stand_in.add_accounts(2 * len(cases), prefix=f"drill{self._numbers}"))
        self._numbers += 1
        for case in cases:
            case.account, case.other = next(accounts), next(accounts)
            case.session = self.product.session(case.user, {ORGANIZATION: "member"}, via="bearer")
        seeded = [case for case in cases if case.route.seeded]
        if not seeded:
            return
        issuer = self.product.stand_in.provider["issuer"]
        minted = self.product.stand_in.mint_each([case.account["key"] for case in seeded], EVERY_SCOPE)
        ring, now = KeyRing(self.product), int(time.time())
        with self.product.redis.pipeline(transaction=False) as pipeline:
            for case, case.minted in zip(seeded, minted):
                store(self.product, pipeline, ring, case.person, case.service, issuer, case.minted)
                # Half of its life is over, and it is good for no more than a moment; or for none.
                times = {"issued_at": now - 3700, "expires_at": now - 100} if case.route.due else \
                    {"issued_at": now - 2000, "expires_at": now + 1500}
                pipeline.hset(f"credential:{{{ORGANIZATION}:{case.user}}}:{case.service}", mapping=times)
            pipeline.execute()

    # One case

    def prepare(self, case):
        case.route.prepare(case)
        if case.route.seeded:
            case.before, case.tokens = dump(self.product, case.user, ORGANIZATION, case.service), case.route.tokens(case)

    def meet(self, case):
        """Ask with the fault armed; case.notes has the answer, how long it took and how often the fault fired."""
        google = self.product.stand_in
        armed = [google.fault(endpoint, kind, times=None, **located(google, options))
                 for endpoint, kind, options in case.route.faults(case)]
        try:
            self.ask(case)
        finally:
            fired = [sum(fault["fired"] for fault in google.clear_faults(number)) for number in armed]
            case.notes["fired"] = all(fired)

    @staticmethod
    def ask(case):
        begun = time.monotonic()
        case.notes["answer"] = case.route.ask(case)
        case.notes["took"] = time.monotonic() - begun

    def judge(self, case):
        took, bound = case.notes["took"], case.route.bound
        if took > bound:
            raise Wrong("stuck", f"took {took:.1f} s, at most {bound}")
        answer = case.notes["answer"]
        case.route.check(case, answer)
        if not case.notes.get("done"):
            case.route.next_works(case)

    def whole(self, case):
        self.prepare(case)
        self.meet(case)
        self.judge(case)

    # Many

    def at_once(self, step, cases):
        """step(case) for all; what goes wrong is the case's own."""
        def guarded(case):
            if "failed" in case.notes:
                return
            try:
                step(case)
            except Wrong as wrong:
                case.notes["failed"] = (wrong.kind, str(wrong))
            except Leak as leak:
                case.notes["failed"] = ("leaked", str(leak))
            except Exception:  # pylint: disable=broad-except
                case.notes["failed"] = (None, traceback.format_exc(limit=-3))

        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(guarded, cases))

    def count(self, cases):
        for case in cases:
            self.drill.injected += 1
            self.drill.fired += bool(case.notes.get("fired"))
            kind, what = case.notes.get("failed", (None, None))
            if kind is not None:
                self.drill.wrong(kind, f"{case}: {what}")
            elif what is not None:
                self.mismatches.append(f"{case}: {what}")
            elif case.notes["ok"]:
                self.drill.ok += 1
            else:
                self.drill.clean_errors += 1
            if not case.notes.get("fired") and what is None:
                self.mismatches.append(f"{case}: the fault did not fire")

    def together(self, cases, fault):
        """All cases under one fault of the connection; judged they are when it is gone."""
        google = self.product.stand_in
        self.at_once(self.prepare, cases)
        armed = None if fault == "refused" else google.fault("connection", fault, times=None)
        google.listen(False)  # kept connections end, and new ones meet the fault
        if armed is not None:
            google.listen(True)
        self.at_once(self.ask, cases)
        if armed is None:
            fired = len(cases) if is_closed(google.ports["https"]) else 0
            google.listen(True)
        else:
            fired = google.clear_faults(armed)[0]["fired"]
        for case in cases[:fired]:
            case.notes["fired"] = True

    def rotate(self, cases):
        self.product.stand_in.settings(personality="rotating")
        self.seed(cases)
        self.at_once(self.whole, cases)
        if self.product.stand_in.counters()["reuse_detections"]:
            self.drill.wrong("lost", "a refresh token was used that the provider had replaced")
        self.product.stand_in.settings(personality="google")

    # The end

    def finish(self, cases):
        self.honoured([case for case in cases if case.route.keeps and case.minted and not case.notes.get("done")])
        self.told(cases)
        if self.product.stand_in.counters()["elsewhere"]:
            self.drill.wrong("leaked", "a redirect was followed")
        if self.product.hosts[0].workers() != self.workers:
            self.drill.wrong("deaths", "the workers are not those of the beginning")
        try:
            self.product.stop()
        except Leak as leak:
            self.drill.wrong("leaked", str(leak))
        assert not self.mismatches, "\n".join(self.mismatches)

    def floods(self):
        """What has no end is given up soon: the worker works on it for a moment, not to the deadline."""
        if self.product.hosts[0].workers() != self.workers:
            return  # one has died, which will be told
        case = Case(ValidateUserinfo(self), None, 99_999)
        self.seed([case])
        for part in ("body", "headers", "header", "interim", "extension", "trailers"):
            fault = self.product.stand_in.fault("userinfo", "endless", account=case.account["email"], part=part)
            before = self.worked()
            case.session.validate(ORGANIZATION)
            self.drill.injected += 1
            self.drill.fired += self.product.stand_in.clear_faults(fault)[0]["fired"]
            if self.worked() - before < FLOOD_SECONDS:
                self.drill.clean_errors += 1
            else:
                self.drill.wrong("stuck", f"an endless {part} took {self.worked() - before:.1f} s of the processor")

    def worked(self):
        """Seconds of the processor that the workers have used."""
        total = 0
        for pid in self.workers:
            with open(f"/proc/{pid}/stat", encoding="ascii") as file:
                fields = file.read().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    def honoured(self, cases):
        tokens = [case.minted["refresh_token"] for case in cases]
        answer = self.product.stand_in.call("POST", "honours", {"refresh_tokens": tokens})["honoured"]
        for case, alive in zip(cases, answer):
            if not alive:
                self.drill.wrong("lost", f"{case}: the provider honours the stored refresh token no longer")

    def told(self, cases):
        """A grant that nobody has, because its tokens never came or could not be revoked, is in the log."""
        told = {line.get("request_id") for line in self.product.log() if line["event"] == "provider_call_failed"}
        for case in cases:
            if case.notes.get("orphans") and case.request_id not in told:
                self.mismatches.append(f"{case}: an orphan grant that nobody is told of")


def located(google, options):
    return {**options, "location": options["location"].replace("{http}", google.base)} if "location" in options else options


def is_closed(port):
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
    except ConnectionRefusedError:
        return True
    return False


# ---- which cases there are


def every_case():
    """One for each fault of an endpoint and each route that calls it: {name of the fault: [(route, fault)]}."""
    stranger = keys.SigningKey().jwk()
    found = {"exchange": at_token(), "refresh": at_token(), "userinfo": at_userinfo(), "revoke": at_revoke(),
             "certs": at_keys(stranger), "discovery": at_discovery()}
    cases = collections.defaultdict(list)
    for step, faults in found.items():
        for fault in faults:
            cases[fault.name] += [(route, fault) for route in ROUTES[step]]
    return cases


def chosen(drill):
    """All, or of each fault one route at least, and of what ends a connection all: first those that take long, as they only
    wait."""
    some = [case for name, routes in every_case().items()
            for case in drill.thin(routes, least=len(routes) if name == "invalid_grant with 400" else 1)]
    drill.random.shuffle(some)  # else twenty commands would start at once
    return sorted(some, key=lambda case: not case[1].slow)


def on_connections(drill):
    return {fault: [(route, Fault(fault, "connection")) for route in drill.thin(ON_CONNECTIONS, least=2)]
            for fault in CONNECTION}


def on_rotation(drill):
    """Odd answers to a refresh with all that is needed in them."""
    return drill.thin([fault for fault in at_token() if fault.judged("refresh") == "good" and "refresh_token" not in fault.name],
                      least=8)


def test_provider_faults(tmp_path_factory):
    with Drill("provider-faults") as drill:
        bound, connection, rotating = chosen(drill), on_connections(drill), on_rotation(drill)
        lanes = [f"keys{number}" for number, (route, _) in enumerate(bound) if route is Keys]
        product = Provided(tmp_path_factory.mktemp("product"), lanes)
        product.start()
        try:
            world = World(product, drill)
            routes = {route: route(world) for route in {route for route, _ in [*bound, *itertools.chain(*connection.values())]}}
            cases = [Case(routes[route], fault, number) for number, (route, fault) in enumerate(bound)]
            world.seed(cases)
            world.at_once(world.whole, cases)
            world.floods()
            hit = []
            for fault, some in connection.items():
                begun = [Case(routes[route], each, len(cases) + len(hit) + number) for number, (route, each) in enumerate(some)]
                world.seed(begun)
                world.together(begun, fault)
                hit += begun
            world.at_once(world.judge, hit)
            rotated = [Case(Rotated(world), fault, len(cases) + len(hit) + number) for number, fault in enumerate(rotating)]
            world.rotate(rotated)
            world.count([*cases, *hit, *rotated])
            world.finish([*cases, *hit, *rotated])
        finally:
            product.stop(check=False)
