/*
 * Errors: every function that can fail returns `const struct error *`; NULL is success.
 *
 * An error is a static constant, so it is compared by address, never freed and never formatted. Its parts are what the
 * outside sees (RFC 9457). Technical detail is logged once, where it is found; it never travels in here.
 */
#ifndef COMMON_ERROR_H
#define COMMON_ERROR_H

struct error {
	int status;         /* HTTP status */
	const char *code;   /* stable, snake_case; the tail of the problem's `type` */
	const char *title;  /* fixed for each code */
	const char *detail; /* one sentence that says what to do */
};

/* What the functions of common/ return. The program defines them, with its own words. */
extern const struct error error_store_unavailable;
extern const struct error error_provider_unreachable;
extern const struct error error_overloaded;

#endif
