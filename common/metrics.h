/*
 * Counters and histograms of all processes, summed where they are read (Prometheus text format 0.0.4).
 *
 * Names are registered before fork, which fixes the layout; then each process claims a slot of shared memory and writes
 * only there. Slots of ended processes keep their counters, so that sums never go down; gauges of a freed slot are
 * zero.
 */
#ifndef COMMON_METRICS_H
#define COMMON_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct buf;
struct metrics;

/* Room for `slots` processes. NULL without memory. */
struct metrics *metrics_open(size_t slots);
void metrics_close(struct metrics *metrics);

/*
 * Register one series; the result is its index. `name` with its unit as Prometheus wants it, `labels` as they stand
 * between the braces ("" for none); series of one name are registered one after the other. A series that is zero in
 * every slot is not shown when it has labels.
 */
size_t metrics_counter(struct metrics *metrics, const char *name, const char *help, const char *labels);
size_t metrics_gauge(struct metrics *metrics, const char *name, const char *help, const char *labels);

/* Durations in seconds; buckets from 1 ms to 10 s. */
size_t metrics_histogram(struct metrics *metrics, const char *name, const char *help, const char *labels);

/* After the last registration: make the shared memory. False without memory. */
bool metrics_freeze(struct metrics *metrics);

/* This process writes slot `slot`; its gauges begin at zero. */
void metrics_claim(struct metrics *metrics, size_t slot);

/* The parent frees the slot of an ended child: gauges become zero. */
void metrics_free(struct metrics *metrics, size_t slot);

void metrics_add(struct metrics *metrics, size_t series, uint64_t n);
void metrics_set(struct metrics *metrics, size_t gauge, int64_t value);
void metrics_observe_us(struct metrics *metrics, size_t histogram, int64_t microseconds);

/* The value of a gauge in slot `slot`. */
int64_t metrics_read(const struct metrics *metrics, size_t gauge, size_t slot);

/* All series, summed over all slots. */
void metrics_write(const struct metrics *metrics, struct buf *out);

#endif
