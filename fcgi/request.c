#include "fcgi/request.h"

static const char *const methods[] = {
    [METHOD_GET] = "GET",       [METHOD_HEAD] = "HEAD",   [METHOD_POST] = "POST",
    [METHOD_DELETE] = "DELETE", [METHOD_OTHER] = "other",
};

const char *
request_method_name(enum method method)
{
	return methods[method];
}

enum method
request_method(const char *name)
{
	enum method method = METHOD_GET;

	while (method < METHOD_OTHER && !text_equal(name, methods[method]))
		method++;
	return method;
}
