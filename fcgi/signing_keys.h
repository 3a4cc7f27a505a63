/* The providers' public keys for id_tokens (JWK sets), kept in each worker as long as the provider's max-age allows. */
#ifndef FCGI_SIGNING_KEYS_H
#define FCGI_SIGNING_KEYS_H

#include "common/jwt.h"

#include <stdbool.h>

struct config;
struct error;
struct json;
struct signing_keys;
struct task;

struct signing_keys *signing_keys_open(const struct config *config);
void signing_keys_close(struct signing_keys *keys);

/*
 * Have the provider's keys at hand, fetched now unless they are fresh; parks. Called before a code is sent, so that a
 * provider whose keys cannot be read costs no member a code. error_provider_unreachable.
 */
const struct error *signing_keys_need(struct task *task);

/*
 * Check `token`; an unknown key makes it fetch the keys once more, at most once a minute. error_identity_invalid, with
 * the reason logged, or error_provider_unreachable.
 */
const struct error *signing_keys_verify(struct task *task, const char *token, const struct json **claims);

#endif
