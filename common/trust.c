/* A certificate of a kind that this OpenSSL does not know looks like one for which memory was missing: hence TRIES. */
#include "common/trust.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>

#define TRIES 3

struct trust {
	char *file;
	X509_STORE *store; /* NULL: not read yet */
	unsigned tries;
};

struct trust *
trust_open(const char *file)
{
	struct trust *trust = calloc(1, sizeof *trust);

	if (trust == NULL)
		return NULL;
	trust->file = strdup(file);
	if (trust->file == NULL) {
		free(trust);
		return NULL;
	}
	return trust;
}

void
trust_close(struct trust *trust)
{
	if (trust == NULL)
		return;
	X509_STORE_free(trust->store);
	free(trust->file);
	free(trust);
}

/* Look into all of them: their keys, and what they may be used for. */
static bool
are_whole(X509_STORE *store)
{
	STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(store);
	bool whole = true;

	for (int i = 0; i < sk_X509_OBJECT_num(objects); i++) {
		X509 *certificate = X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, i));

		if (certificate != NULL &&
		    (X509_get0_pubkey(certificate) == NULL || X509_check_purpose(certificate, -1, 0) != 1))
			whole = false;
	}
	return whole;
}

static bool
read_file(struct trust *trust)
{
	/* As libcurl has it for stores of its own: a chain may end in any certificate of the file. */
	unsigned long flags = X509_V_FLAG_TRUSTED_FIRST | X509_V_FLAG_PARTIAL_CHAIN;
	X509_STORE *store = X509_STORE_new();
	bool good =
	    store != NULL && X509_STORE_set_flags(store, flags) == 1 && X509_STORE_load_file(store, trust->file) == 1;

	if (good && !are_whole(store))
		good = ++trust->tries >= TRIES;
	ERR_clear_error();
	if (good)
		trust->store = store;
	else
		X509_STORE_free(store);
	return good;
}

bool
trust_use(struct trust *trust, void *tls)
{
	if (trust->store == NULL && !read_file(trust))
		return false;
	SSL_CTX_set1_cert_store(tls, trust->store);
	return true;
}
