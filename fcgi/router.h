/* The route table: method, path pattern, who may call -> function; an error -> the problem body. */
#ifndef FCGI_ROUTER_H
#define FCGI_ROUTER_H

#include <stddef.h>

struct request;
struct response;

/* Number of routes, one more than the last index below: index 0 is "none of them". */
size_t router_count(void);

/* The name of route `index`, for metrics and logs: its path pattern. */
const char *router_name(size_t index);

/* Answer `request`: find the route, check everything that stands before it, run it. Returns the route's index. */
size_t router_run(struct request *request, struct response *response);

#endif
