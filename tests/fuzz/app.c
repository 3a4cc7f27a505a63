#include "tests/fuzz/app.h"

#include "common/arena.h"
#include "common/fiber.h"
#include "common/http.h"
#include "common/log.h"
#include "common/loop.h"
#include "common/metrics.h"
#include "common/redis.h"
#include "common/resolve.h"
#include "common/singleflight.h"
#include "fcgi/app.h"
#include "fcgi/app_metrics.h"
#include "fcgi/config.h"
#include "fcgi/router.h"
#include "fcgi/signing_keys.h"
#include "fcgi/store.h"
#include "fcgi/task.h"
#include "tests/fuzz/fuzz.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define ARENA_FIRST 8192
#define ARENA_MAX ((size_t)1024 * 1024) /* as a worker's requests have */
#define IDLE_MS 1                       /* without a command or a byte to send: the rest of a reply never comes */

#define SESSION(count, use, mcps) "*" count "\r\n$2\r\n" FUZZ_USER "\r\n$1\r\ns\r\n" use "\r\n" mcps "\r\n"
#define ROLE "$5\r\nadmin\r\n"
#define ALL_OF_SESSION                                                                                                 \
	"*8\r\n$7\r\nuser_id\r\n$2\r\n" FUZZ_USER "\r\n$8\r\norg:" FUZZ_ORGANIZATION "\r\n" ROLE                       \
	"$5\r\nemail\r\n$9\r\na@b.co.uk\r\n$4\r\nname\r\n$3\r\nAda\r\n"

static const char provider_end[] =
    "\"authorization_endpoint\":\"https://accounts.google.com/auth\",\"token_endpoint\":\"http://127.0.0.1:1/token\","
    "\"revocation_endpoint\":\"http://127.0.0.1:1/revoke\",\"userinfo_endpoint\":\"http://127.0.0.1:1/userinfo\","
    "\"scopes\":[\"openid\",\"email\"],\"client_auth\":\"post\",\"api_base\":\"https://www.googleapis.com\","
    "\"api_paths\":[\"/drive/\"],\"scope_aliases\":{\"email\":\"https://www.googleapis.com/auth/userinfo.email\"},";

static char directory[80];
static char socket_path[108];
static int listening = -1;

static struct {
	struct app app;
	struct fibers *fibers;
	struct arena *arena;
	void (*fn)(struct task *, void *);
	void *arg;
	bool abandoned;
} run;

/* The server's side of the one connection. */
static struct {
	const struct fuzz_answers *answers;
	const char *rest; /* of the answers */
	struct loop_io *listen_io, *io;
	struct loop_timer *idle_timer;
	int fd;
	bool closing;
	char in[65536];
	size_t in_len;
	char out[1024 * 1024];
	size_t out_len, out_sent;
} redis = {.fd = -1};

/* ---- settings ---- */

static void
write_provider(const char *service, const char *member, const char *mcp)
{
	char path[160];
	FILE *file;

	snprintf(path, sizeof path, "%s/providers/%s.json", directory, service);
	file = fopen(path, "w");
	must(file != NULL);
	fprintf(file, "{\"name\":\"%s\",\"description\":\"D\",\"issuer\":\"https://accounts.google.com\",%s%s", service,
		provider_end, member);
	fprintf(file, "\"mcps\":[{\"mcp\":\"%s\",\"name\":\"M\",\"description\":\"D\",", mcp);
	fprintf(file, "\"scopes\":[\"https://www.googleapis.com/auth/%s\"],\"upstream\":\"https://mcp.example/\"}]}",
		mcp);
	must(fclose(file) == 0);
}

static void
remove_files(void)
{
	static const char *const names[] = {"providers/" FUZZ_SERVICE ".json", "providers/" FUZZ_SERVICE_PLAIN ".json",
					    "redis.sock"};
	char path[160];

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
		snprintf(path, sizeof path, "%s/%s", directory, names[i]);
		unlink(path);
	}
	snprintf(path, sizeof path, "%s/providers", directory);
	rmdir(path);
	rmdir(directory);
}

static void
make_files(void)
{
	const char *place = getenv("TMPDIR");
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char path[160];

	snprintf(directory, sizeof directory, "%s/integrations-fuzz.XXXXXX", place != NULL ? place : "/tmp");
	must(mkdtemp(directory) != NULL);
	atexit(remove_files);
	snprintf(path, sizeof path, "%s/providers", directory);
	must(mkdir(path, 0700) == 0);
	write_provider(FUZZ_SERVICE, "\"jwks_uri\":\"http://127.0.0.1:1/keys\",\"id_token_algs\":[\"RS256\"],",
		       "gmail");
	write_provider(FUZZ_SERVICE_PLAIN, "\"iss_required\":true,", "plain_mail");
	snprintf(socket_path, sizeof socket_path, "%s/redis.sock", directory);
	memcpy(address.sun_path, socket_path, strlen(socket_path) + 1);
	listening = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	must(listening >= 0);
	must(bind(listening, (const struct sockaddr *)(const void *)&address, sizeof address) == 0);
	must(listen(listening, 16) == 0);
}

static void idle(void *arg);

static const struct config *
read_settings(void)
{
	struct config_mistakes mistakes;
	const struct config *config;
	char text[160];

	snprintf(text, sizeof text, "%s/providers", directory);
	setenv("PROVIDERS_DIR", text, 1);
	snprintf(text, sizeof text, "unix://%s", socket_path);
	setenv("REDIS_URL", text, 1);
	setenv("PUBLIC_URL", "https://app.example.com", 1);
	setenv("PROVIDER_ALLOW_PRIVATE", "1", 1);
	setenv("TOKEN_KEYS",
	       "k1:ERERERERERERERERERERERERERERERERERERERERERE=\nk2:IiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiIiI=\n", 1);
	setenv("GOOGLE_CLIENT_ID", "client-1", 1);
	setenv("GOOGLE_CLIENT_SECRET", "client-secret-MARKER", 1);
	setenv("PLAIN_CLIENT_ID", "client-2", 1);
	setenv("PLAIN_CLIENT_SECRET", "client-secret-MARKER", 1);
	config = config_open(CONFIG_ALL, &mistakes);
	if (config == NULL)
		fprintf(stderr, "%s\n", mistakes.text[0]);
	must(config != NULL);
	return config;
}

struct app *
fuzz_app(void)
{
	const struct http_settings http = {.allow_private = true, .user_agent = "fuzz"};
	struct app *app = &run.app;

	if (app->loop != NULL)
		return app;
	store_prepare();
	make_files();
	log_configure(LOG_LEVEL_ERROR, true); /* kept, and never written */
	app->config = read_settings();
	app->loop = loop_open();
	app->metrics = metrics_open(1);
	must(app->loop != NULL && app->metrics != NULL);
	app->app_metrics = app_metrics_open(app->metrics, NULL, router_count(), router_name);
	must(app->app_metrics != NULL && metrics_freeze(app->metrics));
	metrics_claim(app->metrics, 0);
	run.fibers = fibers_open(app->loop, 1);
	redis.idle_timer = loop_timer_open(app->loop, idle, NULL);
	must(redis.idle_timer != NULL);
	app->resolver = resolver_open(app->loop);
	app->singleflights = singleflights_open();
	app->signing_keys = signing_keys_open(app->config);
	app->http = http_open(app->loop, app->resolver, &http);
	must(run.fibers != NULL && app->resolver != NULL && app->singleflights != NULL && app->signing_keys != NULL);
	must(app->http != NULL);
	return app;
}

/* ---- Redis ---- */

static void
hang_up(void)
{
	loop_io_close(redis.io);
	redis.io = NULL;
	loop_timer_clear(redis.idle_timer);
	if (redis.fd >= 0)
		close(redis.fd);
	redis.fd = -1;
	redis.in_len = redis.out_len = redis.out_sent = 0;
	redis.closing = false;
}

static void
put(const char *bytes, size_t len)
{
	if (redis.out_len + len > sizeof redis.out) {
		redis.closing = true;
		return;
	}
	memcpy(redis.out + redis.out_len, bytes, len);
	redis.out_len += len;
}

/* To HMGET, with the role where it is asked for (as the last of 7 words), or to HGETALL. */
static const char *
session(const char *name, long words)
{
	bool gateway = redis.answers->session == FUZZ_SESSION_GATEWAY;

	if (strcmp(name, "HGETALL") == 0)
		return ALL_OF_SESSION;
	if (words < 7)
		return gateway ? SESSION("4", "$7\r\ngateway", "$5\r\ngmail") : SESSION("4", "$-1", "$-1");
	return gateway ? SESSION("5", "$7\r\ngateway", "$5\r\ngmail") ROLE : SESSION("5", "$-1", "$-1") ROLE;
}

static void
answer(const char *name, const char *key, long words)
{
	const char *end, *next;

	if (redis.answers->session != FUZZ_SESSION_ASKED && strncmp(key, "session:", 8) == 0) {
		const char *reply = session(name, words);

		put(reply, strlen(reply));
		return;
	}
	if (redis.rest == NULL) {
		if (redis.answers->then_nil)
			put("$-1\r\n", 5);
		else
			redis.closing = true;
		return;
	}
	end = redis.answers->bytes + redis.answers->len;
	next = memchr(redis.rest, '~', (size_t)(end - redis.rest));
	put(redis.rest, (size_t)((next != NULL ? next : end) - redis.rest));
	redis.rest = next != NULL ? next + 1 : NULL;
}

/* "*3\r\n" or "$3\r\n" at *at: the number; -1 when it is not whole. Nothing else may ever come from us. */
static long
length(char mark, const char **at, const char *end)
{
	const char *line = memchr(*at, '\n', (size_t)(end - *at));
	char *stop;
	long value;

	if (line == NULL)
		return -1;
	must(**at == mark);
	value = strtol(*at + 1, &stop, 10);
	must(value >= 0 && stop > *at + 1 && *stop == '\r' && stop + 1 == line);
	*at = line + 1;
	return value;
}

/* Take one command from `in`; false when it is not whole. Whatever a request holds, it must not break out of its word.
 */
static bool
take_command(void)
{
	const char *at = redis.in;
	const char *end = redis.in + redis.in_len;
	char word[2][16] = {{0}};
	long words = length('*', &at, end);

	must(words != 0);
	for (long i = 0; i < words; i++) {
		long len = at < end ? length('$', &at, end) : -1;

		if (len < 0 || end - at < len + 2)
			return false;
		if (i < 2)
			memcpy(word[i], at, (size_t)len < sizeof word[i] ? (size_t)len : sizeof word[i] - 1);
		must(memcmp(at + len, "\r\n", 2) == 0);
		at += len + 2;
	}
	if (words < 0)
		return false;
	redis.in_len -= (size_t)(at - redis.in);
	memmove(redis.in, at, redis.in_len);
	answer(word[0], word[1], words);
	return true;
}

static void
send_some(void)
{
	size_t left = redis.out_len - redis.out_sent;
	size_t at_once = redis.answers->at_once;
	ssize_t sent =
	    send(redis.fd, redis.out + redis.out_sent, at_once > 0 && left > at_once ? at_once : left, MSG_NOSIGNAL);

	if (sent < 0 && errno != EAGAIN)
		redis.closing = true;
	redis.out_sent += sent > 0 ? (size_t)sent : 0;
}

static void
idle(void *arg)
{
	(void)arg;
	hang_up();
}

static void
talk(void *arg, int events)
{
	(void)arg;
	loop_timer_set(redis.idle_timer, IDLE_MS);
	if (events & LOOP_READ) {
		ssize_t got = recv(redis.fd, redis.in + redis.in_len, sizeof redis.in - redis.in_len, 0);

		if (got == 0 || (got < 0 && errno != EAGAIN)) {
			hang_up();
			return;
		}
		redis.in_len += got > 0 ? (size_t)got : 0;
		while (redis.in_len > 0 && take_command())
			continue;
		must(redis.in_len < sizeof redis.in);
	}
	if (redis.out_sent < redis.out_len)
		send_some();
	if (redis.out_sent == redis.out_len && redis.closing)
		hang_up();
	else
		loop_io_set(redis.io, redis.out_sent < redis.out_len ? LOOP_READ | LOOP_WRITE : LOOP_READ);
}

static void
accept_one(void *arg, int events)
{
	int fd = accept4(listening, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	(void)arg;
	(void)events;
	if (fd < 0)
		return;
	hang_up();
	redis.fd = fd;
	redis.io = loop_io_open(run.app.loop, fd, LOOP_READ, talk, NULL);
	must(redis.io != NULL);
}

bool
fuzz_one_answer_less(struct fuzz_answers *answers)
{
	const char *last;

	if (answers->bytes == NULL)
		return false;
	last = memrchr(answers->bytes, '~', answers->len);
	if (last == NULL)
		answers->bytes = NULL;
	else
		answers->len = (size_t)(last - answers->bytes);
	return true;
}

/* ---- one run ---- */

static void
exhausted(void *arg)
{
	(void)arg;
	fiber_abandon();
}

static void
work(void *arg)
{
	struct task task = {.app = &run.app,
			    .arena = run.arena,
			    .connection_key = {FUZZ_ORGANIZATION, FUZZ_USER, FUZZ_SERVICE},
			    .provider = config_provider(run.app.config, FUZZ_SERVICE),
			    .actor = "user:" FUZZ_USER,
			    .request_id = "r"};

	(void)arg;
	run.fn(&task, run.arg);
}

static void
ended(void *arg, bool abandoned)
{
	(void)arg;
	run.abandoned = abandoned;
	loop_stop(run.app.loop);
}

bool
fuzz_app_run(const struct fuzz_answers *answers, void (*fn)(struct task *, void *), void *arg)
{
	struct app *app = fuzz_app();

	run.arena = arena_open(ARENA_FIRST, ARENA_MAX, exhausted, NULL);
	run.fn = fn;
	run.arg = arg;
	redis.answers = answers;
	redis.rest = answers->bytes;
	redis.listen_io = loop_io_open(app->loop, listening, LOOP_READ, accept_one, NULL);
	app->redis = app->sessions = redis_open(app->loop, app->resolver, app->metrics, "fuzz", app->config->redis_url);
	must(run.arena != NULL && redis.listen_io != NULL && app->redis != NULL);
	must(fiber_start(run.fibers, work, ended, NULL));
	loop_run(app->loop);
	redis_close(app->redis);
	hang_up();
	loop_io_close(redis.listen_io);
	arena_close(run.arena);
	return !run.abandoned;
}
