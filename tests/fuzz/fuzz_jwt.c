/*
 * jwt_verify with the key of RFC 7515 A.3, whose private half nobody here has: no token is valid but the RFC's own. And
 * jwt_keys_open with the same input.
 */
#include "common/json_read.h"
#include "common/jwt.h"
#include "common/text.h"
#include "tests/fuzz/fuzz.h"

static const char key_set[] = "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\","
			      "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","
			      "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"}]}";
static const char signed_part[] =
    "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGx"
    "lLmNvbS9pc19yb290Ijp0cnVlfQ.";

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct jwt_keys *keys;
	if (keys == NULL)
		keys = jwt_keys_open(key_set, strlen(key_set));
	must(keys != NULL);
	struct arena *arena = fuzz_arena();
	struct words algorithms = words_split(arena, "RS256 RS384 RS512 PS256 ES256 ES384");
	char *text = fuzz_text(data, size);

	const struct json *claims = NULL;
	enum jwt_result result = jwt_verify(arena, keys, &algorithms, text, &claims);
	must((claims != NULL) == (result == JWT_VALID));
	if (result == JWT_VALID)
		must(strncmp(text, signed_part, strlen(signed_part)) == 0);
	const struct json *unverified = jwt_claims_unverified(arena, text);
	must(unverified == NULL || unverified->type == JSON_OBJECT);
	if (claims != NULL)
		must(unverified != NULL);

	struct jwt_keys *other = jwt_keys_open((const char *)data, size);
	if (other != NULL)
		jwt_verify(arena, other, &algorithms, text, &claims);
	jwt_keys_close(other);
	free(text);
	return 0;
}
