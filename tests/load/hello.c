/*
 * What `make bench` compares with: the usual way to write FastCGI in C. Processes that block in FCGX_Accept_r, a
 * constant answer, and the connection closed after it.
 *
 *   hello SOCKET PROCESSES BODY-LENGTH
 */
#include <fcgiapp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

static void
serve(int listening, const char *body)
{
	FCGX_Request request;

	FCGX_InitRequest(&request, listening, 0);
	while (FCGX_Accept_r(&request) == 0) {
		FCGX_FPrintF(request.out, "Content-Type: application/json\r\nContent-Length: %d\r\n\r\n",
			     (int)strlen(body));
		FCGX_PutS(body, request.out);
		FCGX_Finish_r(&request);
	}
}

int
main(int argc, char **argv)
{
	size_t len;
	char *body;
	int listening;

	if (argc != 4) {
		fprintf(stderr, "usage: %s SOCKET PROCESSES BODY-LENGTH\n", argv[0]);
		return 64;
	}
	len = strtoul(argv[3], NULL, 10);
	body = calloc(1, len + 1);
	if (body == NULL || FCGX_Init() != 0)
		return 1;
	memset(body, 'x', len);
	listening = FCGX_OpenSocket(argv[1], 4096);
	for (long i = strtol(argv[2], NULL, 10); i > 1; i--) {
		if (fork() == 0) {
			prctl(PR_SET_PDEATHSIG, SIGTERM);
			break;
		}
	}
	serve(listening, body);
	return 0;
}
