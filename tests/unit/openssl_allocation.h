/* OpenSSL gets memory unless fails() of the test that includes this, once, says that there is none. */
#ifndef TESTS_UNIT_OPENSSL_ALLOCATION_H
#define TESTS_UNIT_OPENSSL_ALLOCATION_H

#include <openssl/crypto.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

static bool fails(void);

static void *
allocate(size_t size, const char *file, int line)
{
	(void)file;
	(void)line;
	return fails() ? NULL : malloc(size);
}

static void *
allocate_again(void *bytes, size_t size, const char *file, int line)
{
	(void)file;
	(void)line;
	return fails() ? NULL : realloc(bytes, size);
}

static void
release(void *bytes, const char *file, int line)
{
	(void)file;
	(void)line;
	free(bytes);
}

/* Before OpenSSL has allocated anything; false: it already has. */
static bool
openssl_asks_us(void)
{
	return CRYPTO_set_mem_functions(allocate, allocate_again, release) == 1;
}

#endif
