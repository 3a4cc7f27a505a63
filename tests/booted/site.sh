#!/bin/bash
# Inside the booted machine, as root: steps 1 to 8 of deploy/README.md, beside Debian's nginx and Redis, with the
# stand-in in Google's place. What the tests need to know of it goes to /srv/site.
set -euo pipefail
shopt -s inherit_errexit
trap 'echo "site.sh: line $LINENO failed" >&2' ERR

host=app.example.com
share=/usr/local/share/integrations
settings=/etc/integrations
mkdir -m 0700 /srv/site
cd /srv/integrations

# 1: build and install
make -s -j"$(nproc)"
make -s install
systemd-sysusers
systemctl daemon-reload

# 2: the provider, which keeps its clock and its grants in memory
systemd-run -q --unit=google --working-directory=/srv/integrations /usr/bin/python3 tests/google/stand_in.py --directory /srv/google --https-port 9443 \
	--http-port 9080 --redirect-uri "https://$host/integrations/google/callback"
until curl -sf http://127.0.0.1:9080/__control/health >/dev/null; do
	systemctl is-active -q google || { journalctl -q -u google >&2; exit 1; }
done
# As a system's CA would be.
install -m 0644 /srv/google/ca.pem /etc/ssl/certs/google.pem

# 3: Redis. Debian's has no append-only file yet, and whoever is in its group may use the socket.
redis-cli config set appendonly yes >/dev/null
until redis-cli info persistence | tr -d '\r' | grep -x aof_rewrite_in_progress:0 >/dev/null; do :; done
cp $share/redis/users.acl $share/redis/integrations.conf /etc/redis/
for user in integrations admin platform operator; do
	echo "MARKER-$(openssl rand -hex 16)" >"/srv/site/password-$user"
	hash=$(tr -d '\n' <"/srv/site/password-$user" | sha256sum | cut -d ' ' -f 1)
	sed -i "s/#@${user^^}_SHA256@/#$hash/" /etc/redis/users.acl
done
chown redis: /etc/redis/users.acl
chmod 0640 /etc/redis/users.acl
printf '%s\n' "unixsocket /run/redis/redis-server.sock" "unixsocketperm 770" "include /etc/redis/integrations.conf" \
	>>/etc/redis/redis.conf
systemctl restart redis-server
usermod -aG redis integrations
usermod -aG redis integrations-admin

# 4: secrets, by the page's own lines
secret() { install -m 0440 -g "$2" /dev/stdin "secrets/$1"; }
(
	cd $settings && install -d -m 0750 -g integrations keys secrets
	integrations keys new 2>/dev/null | install -m 0440 -g integrations /dev/stdin keys/token-keys
	secret google-client-secret integrations </srv/google/client-secret
	echo "unix://integrations:$(cat /srv/site/password-integrations)@/run/redis/redis-server.sock" | secret redis-url integrations
	echo "redis://integrations-admin:$(cat /srv/site/password-admin)@localhost:6379/0" | secret redis-admin-url integrations-admin
)

# 5: settings
client=$(/usr/bin/python3 -c 'import json; print(json.load(open("/srv/google/ports.json"))["client_id"])')
sed -i -e "s|^PUBLIC_URL=.*|PUBLIC_URL=https://$host|" -e "s|^GOOGLE_CLIENT_ID=.*|GOOGLE_CLIENT_ID=$client|" $settings/integrations.env
printf '%s\n' PROVIDER_CA_FILE=/etc/ssl/certs/google.pem PROVIDER_ALLOW_PRIVATE=1 LIMIT_AUTH_LINK=0 LIMIT_VALIDATE=0 >>$settings/integrations.env
cp /srv/google/providers/google.json $settings/providers/

# 6: nginx, into servers that serve something else already
echo "127.0.0.1 $host" >>/etc/hosts
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=$host" -addext "subjectAltName=DNS:$host" \
	-keyout /etc/ssl/private/$host.key -out /etc/ssl/certs/$host.pem 2>/dev/null
$share/nginx/install.sh /etc/nginx PUBLIC_URL=https://$host PROVIDER_CA_FILE=/etc/ssl/certs/google.pem
cat >/etc/nginx/conf.d/$host.conf <<CONF
include snippets/integrations-http.conf;
server {
	listen 443 ssl;
	server_name $host;
	ssl_certificate /etc/ssl/certs/$host.pem;
	ssl_certificate_key /etc/ssl/private/$host.key;
	root /var/www/html;
	include snippets/integrations-server.conf;
}
server {
	listen 127.0.0.1:8081;
	include snippets/integrations-internal.conf;
}
CONF
nginx -q -t
systemctl reload nginx

# 7: the service
systemctl enable -q --now integrations.socket integrations.service

# 8: a session, and a caller
integrations-admin session create --user ada --org acme 2>/dev/null | tail -n 1 >/srv/site/session
integrations-admin caller create --name gmail-mcp --mcps gmail --orgs acme 2>/dev/null | tail -n 1 >/srv/site/caller
