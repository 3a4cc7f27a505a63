"""Several hosts with one worker each and a proxy before their Redis: for races, and for workers that die."""

import os
import signal
import threading

from checks import key, make_due
from harness import Product, good
from programs import Caller
from redis_proxy import RedisProxy


class Later(threading.Thread):
    """A request on a thread of its own; `answer()` waits for it."""

    def __init__(self, call, *arguments, **more):
        super().__init__(daemon=True)
        self._call = lambda: call(*arguments, **more)
        self._answer = self._error = None
        self.start()

    def run(self):
        try:
            self._answer = self._call()
        except BaseException as error:  # pylint: disable=broad-except
            self._error = error

    def answer(self, seconds=20):
        self.join(seconds)
        assert not self.is_alive(), "no answer"
        if self._error is not None:
            raise self._error
        return self._answer


class Cluster:
    """Several hosts with one worker each, so that it is known who holds what; all their commands to one Redis through a proxy."""

    def __init__(self, directory, hosts):
        path = os.path.join(str(directory), "proxy.sock")
        self.product = Product(directory, hosts=hosts, workers=1,
                               environment={"REDIS_URL": f"unix://{path}", "LIMIT_AUTH_LINK": "0", "LIMIT_VALIDATE": "0"})
        self.redis = self.product.redis
        self.proxy = RedisProxy(path, self.product.redis_server)
        self.product.start()

    def reset(self):
        self.proxy.clear()
        self.revive()
        self.product.forget()
        self.caller = Caller(self.product)

    def stop(self):
        self.proxy.clear()
        self.revive()
        self.product.stop()
        self.proxy.stop()

    def worker(self, host):
        return self.product.hosts[host].workers()[0]

    def kill(self, host):
        """A host dies, with all that it was doing."""
        serve = self.product.hosts[host].serve
        serve.pause()  # so that it does not replace the worker
        os.kill(self.worker(host), signal.SIGKILL)
        serve.kill()

    def revive(self):
        """Start what was killed."""
        for host in self.product.hosts:
            if not host.serve.running():
                host.serve.start()
        for host in self.product.hosts:
            host.wait_ready()


class Person:
    """A user with an account of their own; `host` is where they go, the crowd behind them goes to host 0."""

    def __init__(self, cluster, name, host=1):
        self.cluster, self.product, self.name, self.host = cluster, cluster.product, name, host
        account, = cluster.product.stand_in.add_accounts(1, prefix=name)
        self.account = account["email"]
        self.session = cluster.product.session(name, {"acme": "member"})

    def connect(self):
        return good(self.callback(self.authorize(), host=0))["integration"]

    def authorize(self):
        return self.session.authorize("acme", account=self.account)

    def callback(self, document, host=None):
        return self.session.callback("acme", document, host=self.host if host is None else host)

    def expired(self):
        self.connect()
        make_due(self.product, self.name)
        return self

    def ask(self, host=None):
        return Later(self.cluster.caller.token, self.name, host=self.host if host is None else host)

    def crowd(self, count=4):
        return [self.ask(host=0) for _ in range(count)]

    def fault(self, endpoint, kind, **more):
        return self.product.stand_in.fault(endpoint, kind, account=self.account, **more)

    def lease(self):
        return self.cluster.redis.get(key("refresh_lease", self.name))

    def refreshes(self):
        return sum(event["event"] == "issued" and event["kind"] == "access" and event["account"] == self.account
                   for event in self.product.stand_in.ledger()["events"]) - 1

    def works(self):
        """Does the provider honour what is stored? Found out by using it."""
        make_due(self.product, self.name)
        answer = good(self.cluster.caller.token(self.name, host=0))
        return "warning" not in answer and self.product.stand_in.honours(access_token=answer["access_token"])
