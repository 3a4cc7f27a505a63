"""Variables of the environment that libraries read: none of them leads the workers elsewhere."""

from harness import good

VARIABLES = {
    **{name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")},
    "LIBEV_FLAGS": "1", "NETRC": "/nonexistent", "CURL_CA_BUNDLE": "/nonexistent", "SSL_CERT_FILE": "/nonexistent",
    "SSL_CERT_DIR": "/nonexistent", "CURL_SSL_BACKEND": "none", "SSLKEYLOGFILE": "/nonexistent/keys"}


def test_the_libraries_variables_change_nothing(make_product):
    product = make_product(environment=dict(VARIABLES), workers=1)
    ada = product.session("ada", {"acme": "member"})
    ada.connect("acme")
    assert good(ada.validate("acme"))["is_valid"] is True
    assert good(ada.disconnect("acme"))["revocation"] == "revoked"
    done = product.command("check")
    assert done.returncode == 0, done.stdout
