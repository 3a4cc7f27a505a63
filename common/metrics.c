/*
 * One anonymous shared mapping holds `slots` rows of 64-bit words, made before fork. A process alone writes its own
 * row, from its one thread: so a load and a store do, and no locked addition. A reader sums all rows. Rows outlive
 * their process, so counters never go down.
 */
#include "common/metrics.h"

#include "common/buf.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define SERIES_MAX 4096
#define BUCKETS 13

/* Upper bounds in microseconds, and as Prometheus shows them. */
static const int64_t bounds[BUCKETS] = {1000,   2500,   5000,    10000,   25000,   50000,   100000,
					250000, 500000, 1000000, 2500000, 5000000, 10000000};
static const char *const bound_names[BUCKETS] = {"0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1",
						 "0.25",  "0.5",    "1",     "2.5",  "5",     "10"};

enum kind { COUNTER, GAUGE, HISTOGRAM };

struct series {
	enum kind kind;
	char *name;
	char *help;
	char *labels;
	size_t word; /* first of its words in a row */
};

struct metrics {
	size_t slots;
	size_t words; /* in a row */
	size_t count;
	struct series series[SERIES_MAX];
	uint64_t *shared; /* slots rows */
	uint64_t *row;    /* this process's */
};

struct metrics *
metrics_open(size_t slots)
{
	struct metrics *metrics = calloc(1, sizeof *metrics);

	if (metrics != NULL)
		metrics->slots = slots;
	return metrics;
}

void
metrics_close(struct metrics *metrics)
{
	if (metrics == NULL)
		return;
	for (size_t i = 0; i < metrics->count; i++) {
		free(metrics->series[i].name);
		free(metrics->series[i].help);
		free(metrics->series[i].labels);
	}
	if (metrics->shared != NULL)
		munmap(metrics->shared, metrics->slots * metrics->words * sizeof(uint64_t));
	free(metrics);
}

static size_t
add_series(struct metrics *metrics, enum kind kind, const char *name, const char *help, const char *labels)
{
	struct series *series = &metrics->series[metrics->count];

	if (metrics->count == SERIES_MAX)
		abort(); /* the list of series is fixed at build time */
	series->kind = kind;
	series->name = strdup(name);
	series->help = strdup(help);
	series->labels = strdup(labels);
	if (series->name == NULL || series->help == NULL || series->labels == NULL)
		abort(); /* at start, before anything is served */
	series->word = metrics->words;
	metrics->words += kind == HISTOGRAM ? BUCKETS + 2 : 1; /* and +Inf, and the sum */
	return metrics->count++;
}

size_t
metrics_counter(struct metrics *metrics, const char *name, const char *help, const char *labels)
{
	return add_series(metrics, COUNTER, name, help, labels);
}

size_t
metrics_gauge(struct metrics *metrics, const char *name, const char *help, const char *labels)
{
	return add_series(metrics, GAUGE, name, help, labels);
}

size_t
metrics_histogram(struct metrics *metrics, const char *name, const char *help, const char *labels)
{
	return add_series(metrics, HISTOGRAM, name, help, labels);
}

bool
metrics_freeze(struct metrics *metrics)
{
	void *shared = mmap(NULL, metrics->slots * metrics->words * sizeof(uint64_t), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (shared == MAP_FAILED)
		return false;
	metrics->shared = shared;
	metrics->row = shared;
	return true;
}

static uint64_t *
row_of(const struct metrics *metrics, size_t slot)
{
	return metrics->shared + slot * metrics->words;
}

void
metrics_free(struct metrics *metrics, size_t slot)
{
	for (size_t i = 0; i < metrics->count; i++) {
		if (metrics->series[i].kind == GAUGE)
			__atomic_store_n(row_of(metrics, slot) + metrics->series[i].word, 0, __ATOMIC_RELAXED);
	}
}

void
metrics_claim(struct metrics *metrics, size_t slot)
{
	metrics_free(metrics, slot);
	metrics->row = row_of(metrics, slot);
}

static void
add_to_word(const struct metrics *metrics, size_t word, uint64_t n)
{
	uint64_t *at = metrics->row + word;
	uint64_t sum = __atomic_load_n(at, __ATOMIC_RELAXED) + n;

	__atomic_store_n(at, sum, __ATOMIC_RELAXED);
}

void
metrics_add(struct metrics *metrics, size_t series, uint64_t n)
{
	add_to_word(metrics, metrics->series[series].word, n);
}

void
metrics_set(struct metrics *metrics, size_t gauge, int64_t value)
{
	__atomic_store_n(metrics->row + metrics->series[gauge].word, (uint64_t)value, __ATOMIC_RELAXED);
}

void
metrics_observe_us(struct metrics *metrics, size_t histogram, int64_t microseconds)
{
	size_t word = metrics->series[histogram].word;
	size_t bucket = 0;

	while (bucket < BUCKETS && microseconds > bounds[bucket])
		bucket++;
	add_to_word(metrics, word + bucket, 1);
	add_to_word(metrics, word + BUCKETS + 1, (uint64_t)(microseconds > 0 ? microseconds : 0));
}

int64_t
metrics_read(const struct metrics *metrics, size_t gauge, size_t slot)
{
	return (int64_t)__atomic_load_n(row_of(metrics, slot) + metrics->series[gauge].word, __ATOMIC_RELAXED);
}

static uint64_t
sum(const struct metrics *metrics, size_t word)
{
	uint64_t total = 0;

	for (size_t slot = 0; slot < metrics->slots; slot++)
		total += __atomic_load_n(row_of(metrics, slot) + word, __ATOMIC_RELAXED);
	return total;
}

static void
write_histogram(const struct metrics *metrics, const struct series *series, struct buf *out)
{
	const char *comma = series->labels[0] != '\0' ? "," : "";
	uint64_t total = 0;

	for (size_t i = 0; i <= BUCKETS; i++) {
		total += sum(metrics, series->word + i);
		buf_addf(out, "%s_bucket{%s%sle=\"%s\"} %llu\n", series->name, series->labels, comma,
			 i < BUCKETS ? bound_names[i] : "+Inf", (unsigned long long)total);
	}
	buf_addf(out, "%s_sum{%s} %.6f\n", series->name, series->labels,
		 (double)sum(metrics, series->word + BUCKETS + 1) / 1e6);
	buf_addf(out, "%s_count{%s} %llu\n", series->name, series->labels, (unsigned long long)total);
}

static bool
is_zero(const struct metrics *metrics, const struct series *series)
{
	size_t words = series->kind == HISTOGRAM ? BUCKETS + 1 : 1;

	for (size_t i = 0; i < words; i++) {
		if (sum(metrics, series->word + i) != 0)
			return false;
	}
	return true;
}

void
metrics_write(const struct metrics *metrics, struct buf *out)
{
	static const char *const types[] = {"counter", "gauge", "histogram"};
	const char *last = "";

	for (size_t i = 0; i < metrics->count; i++) {
		const struct series *series = &metrics->series[i];

		if (strcmp(last, series->name) != 0)
			buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", series->name, series->help, series->name,
				 types[series->kind]);
		last = series->name;
		if (series->labels[0] != '\0' && is_zero(metrics, series))
			continue;
		if (series->kind == HISTOGRAM)
			write_histogram(metrics, series, out);
		else
			buf_addf(out, "%s%s%s%s %lld\n", series->name, series->labels[0] != '\0' ? "{" : "",
				 series->labels, series->labels[0] != '\0' ? "}" : "",
				 (long long)sum(metrics, series->word));
	}
}
