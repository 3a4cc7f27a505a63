/*
 * The routes. Each decides one thing, after the router has checked everything that stands before it; on success it has
 * filled the response.
 */
#ifndef FCGI_ROUTE_H
#define FCGI_ROUTE_H

struct error;
struct request;
struct response;

typedef const struct error *route_function(struct request *request, struct response *response);

/* route_me.c */
route_function route_me;
route_function route_services;

/* route_integrations.c */
route_function route_integrations_list;

/* route_connect.c */
route_function route_connect_auth_link;
route_function route_connect_callback;

/* route_validate.c */
route_function route_validate;

/* route_disconnect.c */
route_function route_disconnect;

/* route_mcps.c */
route_function route_mcps;

/* route_token.c */
route_function route_token;

/* route_gateway.c */
route_function route_gateway_mcp;
route_function route_gateway_proxy;
route_function route_gateway_refusal;

/* route_health.c */
route_function route_health_alive;
route_function route_health_ready;
route_function route_health_metrics;

#endif
