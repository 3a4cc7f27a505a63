/*
 * Lines are built in place in a fixed buffer, so that logging allocates nothing and can be used when memory is short.
 * In a worker they are gathered and written once a turn of the loop. A pipe that is polled as writable takes at least
 * PIPE_BUF bytes without waiting; writes are cut at line ends below that. A regular file is never waited for.
 */
#include "common/log.h"

#include "common/clock.h"
#include "common/text.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define VALUE_MAX 256
#define KEEP_MAX ((size_t)64 * 1024)

static enum log_level wanted_level = LOG_LEVEL_INFO;
static bool is_buffered;
static bool is_regular_file;
static char kept[KEEP_MAX];
static size_t kept_len;
static uint64_t dropped;
static int own_pid; /* asked for once: a worker configures its log after fork */

static const char *const level_names[] = {"error", "warn", "info", "debug"};

/* The prefixes of sd-daemon(3), read by journald where stderr goes there. */
static const char *const level_prefixes[] = {"<3>", "<4>", "<6>", "<7>"};
static bool is_journal;

void
log_configure(enum log_level level, bool buffered)
{
	struct stat status;

	wanted_level = level;
	own_pid = (int)getpid();
	is_buffered = buffered;
	is_regular_file = fstat(STDERR_FILENO, &status) == 0 && S_ISREG(status.st_mode);
	is_journal = fstat(STDERR_FILENO, &status) == 0 && S_ISSOCK(status.st_mode);
}

bool
log_level_parse(const char *text, enum log_level *level)
{
	for (size_t i = 0; i < sizeof level_names / sizeof level_names[0]; i++) {
		if (strcmp(text, level_names[i]) == 0) {
			*level = (enum log_level)i;
			return true;
		}
	}
	return false;
}

static void
add_bytes(struct log_line *line, const char *bytes, size_t len)
{
	/* Two bytes stay free for the closing brace and the line end. */
	if (len > sizeof line->text - 2 - line->len) {
		line->cut = true;
		return;
	}
	memcpy(line->text + line->len, bytes, len);
	line->len += len;
}

/* What stands in a line as it is. */
static bool
is_plain(unsigned char c)
{
	static const bool plain[256] = {[' '] = true, ['!'] = true, ['#' ... '['] = true, [']' ... '~'] = true};

	return plain[c];
}

static void
add_escaped(struct log_line *line, const char *value)
{
	static const char digits[] = "0123456789abcdef";
	size_t len = strnlen(value, VALUE_MAX);
	size_t i = 0;

	while (i < len) {
		size_t from = i;
		unsigned char c;
		char escape[6] = {'\\', 'u', '0', '0'};

		while (i < len && is_plain((unsigned char)value[i]))
			i++;
		add_bytes(line, value + from, i - from);
		if (i == len)
			return;
		c = (unsigned char)value[i++];
		if (c == '"' || c == '\\') {
			escape[1] = (char)c;
			add_bytes(line, escape, 2);
		} else { /* control bytes, and what is not ASCII: a cut in the middle of a character does no harm */
			escape[4] = digits[c >> 4];
			escape[5] = digits[c & 15];
			add_bytes(line, escape, sizeof escape);
		}
	}
}

/* A field is there whole or not at all. */
static void
end_field(struct log_line *line, size_t before)
{
	if (line->cut)
		line->len = before;
	line->cut = false;
}

static void
add_key(struct log_line *line, const char *key)
{
	add_bytes(line, ",\"", 2);
	add_bytes(line, key, strlen(key));
	add_bytes(line, "\":", 2);
}

static void
add_words(struct log_line *line, const char *words)
{
	add_bytes(line, words, strlen(words));
}

static void
add_number(struct log_line *line, int64_t number)
{
	char digits[20];
	const char *end = text_number(digits, number);

	add_bytes(line, digits, (size_t)(end - digits));
}

static void
add_time(struct log_line *line)
{
	static int64_t stamped_second = -1;
	static char stamp[CLOCK_RFC3339_SIZE];
	int64_t now = clock_wall_ms();
	int ms = (int)(now % 1000);
	const char rest[5] = {'.', (char)('0' + ms / 100), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10), 'Z'};

	if (now / 1000 != stamped_second) {
		stamped_second = now / 1000;
		clock_rfc3339(stamped_second, stamp);
	}
	add_bytes(line, stamp, sizeof "2026-11-22T10:00:00" - 1);
	add_bytes(line, rest, sizeof rest);
}

void
log_begin(struct log_line *line, enum log_level level, const char *event)
{
	line->len = 0;
	line->cut = false;
	line->wanted = level <= wanted_level;
	if (!line->wanted)
		return;
	if (is_journal)
		add_words(line, level_prefixes[level]);
	add_words(line, "{\"time\":\"");
	add_time(line);
	add_words(line, "\",\"level\":\"");
	add_words(line, level_names[level]);
	add_words(line, "\",\"event\":\"");
	add_words(line, event);
	add_words(line, "\",\"pid\":");
	add_number(line, own_pid != 0 ? own_pid : (int)getpid());
}

void
log_text(struct log_line *line, const char *key, const char *value)
{
	size_t before = line->len;

	if (!line->wanted || value == NULL)
		return;
	add_key(line, key);
	add_bytes(line, "\"", 1);
	add_escaped(line, value);
	add_bytes(line, "\"", 1);
	end_field(line, before);
}

void
log_number(struct log_line *line, const char *key, int64_t value)
{
	size_t before = line->len;

	if (!line->wanted)
		return;
	add_key(line, key);
	add_number(line, value);
	end_field(line, before);
}

static void
keep_line(const char *bytes, size_t len)
{
	if (len > sizeof kept - kept_len)
		log_flush();
	if (len > sizeof kept - kept_len) {
		dropped++;
		return;
	}
	memcpy(kept + kept_len, bytes, len);
	kept_len += len;
}

void
log_end(struct log_line *line)
{
	if (!line->wanted)
		return;
	line->text[line->len++] = '}';
	line->text[line->len++] = '\n';
	keep_line(line->text, line->len);
	if (!is_buffered)
		log_flush();
}

void
log_message(enum log_level level, const char *event, const char *message, const char *action)
{
	struct log_line line;

	log_begin(&line, level, event);
	log_text(&line, "message", message);
	log_text(&line, "action", action);
	log_end(&line);
}

/* The longest run of whole lines of at most `most` bytes. */
static size_t
whole_lines(const char *bytes, size_t len, size_t most)
{
	size_t n = len < most ? len : most;

	while (n > 0 && bytes[n - 1] != '\n')
		n--;
	return n;
}

static uint64_t
count_lines(const char *bytes, size_t len)
{
	uint64_t count = 0;

	for (size_t i = 0; i < len; i++)
		count += bytes[i] == '\n';
	return count;
}

void
log_flush(void)
{
	size_t done = 0;

	while (done < kept_len) {
		size_t most = is_regular_file ? kept_len : PIPE_BUF;
		size_t n = whole_lines(kept + done, kept_len - done, most);
		struct pollfd ready = {.fd = STDERR_FILENO, .events = POLLOUT};
		ssize_t written;

		if (is_buffered && !is_regular_file && (poll(&ready, 1, 0) != 1 || (ready.revents & POLLOUT) == 0))
			break;
		written = write(STDERR_FILENO, kept + done, n);
		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0 && errno != EAGAIN) { /* there is no place to report it */
			dropped += count_lines(kept + done, kept_len - done);
			done = kept_len;
		}
		if (written <= 0)
			break;
		done += (size_t)written;
	}
	memmove(kept, kept + done, kept_len - done);
	kept_len -= done;
}

uint64_t
log_dropped(void)
{
	return dropped;
}
