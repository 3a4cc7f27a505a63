/* Whose an access token is, asked at the provider (OpenID Connect Core 5.3, or what stands for it). */
#ifndef FCGI_PROVIDER_USERINFO_H
#define FCGI_PROVIDER_USERINFO_H

struct task;

enum userinfo_result {
	USERINFO_GOOD,
	USERINFO_REFUSED,    /* the provider does not take the token */
	USERINFO_FORBIDDEN,  /* the provider's or its customer's policy forbids the call */
	USERINFO_UNREACHABLE /* no usable answer */
};

/* The account that the provider names for `access_token`. On USERINFO_GOOD *account is set; *email may be NULL. */
enum userinfo_result provider_userinfo(struct task *task, const char *access_token, const char **account,
				       const char **email);

#endif
