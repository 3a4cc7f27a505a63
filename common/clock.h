/* The two clocks. Durations and deadlines use the monotonic one, what is stored and shown the wall clock. */
#ifndef COMMON_CLOCK_H
#define COMMON_CLOCK_H

#include <stdint.h>

#define CLOCK_RFC3339_SIZE 21 /* 2026-11-22T10:00:00Z and a NUL */

int64_t clock_wall(void);         /* seconds since 1970, UTC */
int64_t clock_wall_ms(void);      /* the same in milliseconds */
int64_t clock_monotonic_ms(void); /* milliseconds since some fixed moment */
int64_t clock_monotonic_us(void);

/* `seconds` since 1970 as RFC 3339 in UTC; years 1970 to 9999, others are clamped. */
void clock_rfc3339(int64_t seconds, char out[CLOCK_RFC3339_SIZE]);

#endif
