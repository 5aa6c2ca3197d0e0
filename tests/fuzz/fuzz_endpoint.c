// SPDX-License-Identifier: Apache-2.0
// Datastore URLs: what parses has a database and ports that are numbers, and is never shown with
// its password. The first byte says which grammar.
#include "fuzz.h"
#include "store/sql/endpoint.h"

static const char secret[] = "hunter2";

static bool has(const char *s)
{
    return s && strstr(s, secret);
}

// Twice, one may be a user that another one replaces: nobody could tell which was shown.
static bool has_once(const char *s)
{
    const char *p = strstr(s, secret);
    return p && !strstr(p + 1, secret);
}

static bool has_elsewhere(const struct kl_endpoint *e)
{
    bool r = has(e->user) || has(e->host) || has(e->db) || has(e->socket) || has(e->cafile) ||
             has(e->certfile) || has(e->keyfile);
    for (size_t i = 0; i < e->nparams; i++)
        r |= has(e->params[i].name) || has(e->params[i].value);
    return r;
}

static void check_ports(const char *ports)
{
    struct kl_str rest = kl_str(ports), one;
    uint64_t n;
    while (kl_str_split(&rest, ',', &one))
        FUZZ_CHECK(kl_str_to_u64(one, &n) && n > 0 && n < 65536, "%s", ports);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char url[8192], shown[8192];
    struct kl_endpoint e;
    struct kl_error err = {0};
    if (size < 1 || size > 5000)
        return 0;
    bool my = data[0] == 'm';
    struct kl_str rest = {(const char *)data + 1, size - 1};
    snprintf(url, sizeof(url), "%s://%.*s", my ? "mysql" : "postgres", KL_PRI(rest));
    kl_endpoint_redact(url, shown, sizeof(shown));
    int r = kl_endpoint_parse(my ? KL_ENDPOINT_MYSQL : KL_ENDPOINT_POSTGRES, rest, NULL, &e, &err);
    FUZZ_CHECK(!r == !err.code && !strchr(err.msg, '\n'), "%d %s", r, err.msg);
    if (r)
        return 0;
    FUZZ_CHECK(e.db && *e.db && (!e.socket || !e.host), "%s", url);
    if (e.port)
        check_ports(e.port);
    // Of a password in the query only the last is the password, but all are masked.
    FUZZ_CHECK(!has(e.password) || !has_once(url) || has_elsewhere(&e) || !has(shown), "%s", shown);
    FUZZ_CHECK(strlen(kl_endpoint_name(&e, url, sizeof(url))) > 0, "no name");
    kl_endpoint_fini(&e);
    return 0;
}
