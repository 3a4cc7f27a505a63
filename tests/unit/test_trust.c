/* Trusted certificates: read once, from a file that may come late, and whole even when memory is missing as they are.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "common/trust.h"
#include "tests/unit/openssl_allocation.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static long left = -1; /* allocations until one fails; -1: none does */
static char path[] = "/tmp/trust-XXXXXX";

static bool
fails(void)
{
	return left >= 0 && left-- == 0;
}

/* A certificate of a CA, signed by itself. */
static void
write_certificate(void)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *certificate = X509_new();
	FILE *file = fopen(path, "w");
	X509_NAME *name = X509_get_subject_name(certificate);

	assert_non_null(file);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"Test CA", -1, -1, 0);
	X509_set_issuer_name(certificate, name);
	X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
	X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
	X509_set_pubkey(certificate, key);
	assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
	assert_int_equal(PEM_write_X509(file, certificate), 1);
	fclose(file);
	X509_free(certificate);
	EVP_PKEY_free(key);
}

static int
open_all(void **state)
{
	int fd = mkstemp(path);

	(void)state;
	if (fd < 0)
		return 1;
	close(fd);
	return 0;
}

static int
close_all(void **state)
{
	(void)state;
	return unlink(path);
}

/* The one certificate that `tls` trusts, or NULL. */
static X509 *
trusted(SSL_CTX *tls)
{
	STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(SSL_CTX_get_cert_store(tls));

	return sk_X509_OBJECT_num(objects) == 1 ? X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, 0)) : NULL;
}

static void
a_file_is_read_when_it_is_there(void **state)
{
	struct trust *trust = trust_open(path);
	SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
	SSL_CTX *other = SSL_CTX_new(TLS_client_method());

	(void)state;
	assert_false(trust_use(trust, tls)); /* it is empty */
	assert_null(trusted(tls));
	write_certificate();
	assert_true(trust_use(trust, tls));
	assert_non_null(trusted(tls));
	assert_int_equal(truncate(path, 0), 0);
	assert_true(trust_use(trust, other)); /* once */
	assert_ptr_equal(trusted(other), trusted(tls));
	trust_close(trust);
	SSL_CTX_free(other);
	assert_non_null(X509_get0_pubkey(trusted(tls))); /* who has it keeps it */
	SSL_CTX_free(tls);
	trust_close(NULL);
}

/* Whichever allocation fails: what is trusted then can be used, or nothing is, and the next time it is. */
static void
missing_memory_leaves_no_damage(void **state)
{
	bool refused = false;

	(void)state;
	write_certificate();
	for (long n = 0;; n++) {
		struct trust *trust = trust_open(path);
		SSL_CTX *tls = SSL_CTX_new(TLS_client_method());
		bool used;

		left = n;
		used = trust_use(trust, tls);
		refused = refused || !used;
		if (left >= 0) { /* it needs no more */
			left = -1;
			assert_true(used && refused && n > 20);
			SSL_CTX_free(tls);
			trust_close(trust);
			return;
		}
		assert_true(trust_use(trust, tls));
		assert_non_null(X509_get0_pubkey(trusted(tls)));
		assert_int_equal(X509_verify(trusted(tls), X509_get0_pubkey(trusted(tls))), 1);
		SSL_CTX_free(tls);
		trust_close(trust);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_file_is_read_when_it_is_there),
	    cmocka_unit_test(missing_memory_leaves_no_damage),
	};

	if (!openssl_asks_us())
		return 1;
	return cmocka_run_group_tests_name("trust", tests, open_all, close_all);
}
