/* Where to connect: the forms of REDIS_URL. Only the redis*.c files include this. */
#ifndef COMMON_REDIS_URL_H
#define COMMON_REDIS_URL_H

struct redis_target {
	char *path; /* unix socket, or NULL */
	char *host;
	unsigned port;
	char *user; /* NULL: none */
	char *password;
	char *db;
};

/* NULL, or what is wrong with `url`, without its password. In both cases redis_target_free afterwards. */
const char *redis_target_parse(struct redis_target *target, const char *url);

/* Wipes the password. */
void redis_target_free(struct redis_target *target);

#endif
