/*
 * The certificates that TLS connections trust, read from a file when the first one needs them, once.
 *
 * OpenSSL looks into a certificate only when it is first used, keeps what it found there with it, and when memory is
 * missing at that moment it finds it bad for good. So here each is looked into as it is read, and a file of which
 * memory let something fail is read again for the next call that needs it.
 */
#ifndef COMMON_TRUST_H
#define COMMON_TRUST_H

#include <stdbool.h>

struct trust;

/* `file` has certificates in PEM. NULL without memory. */
struct trust *trust_open(const char *file);
void trust_close(struct trust *trust);

/* Have `tls`, an SSL_CTX, trust them; false when the file cannot be read, or memory is missing. */
bool trust_use(struct trust *trust, void *tls);

#endif
