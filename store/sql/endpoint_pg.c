// SPDX-License-Identifier: Apache-2.0
// PostgreSQL's connection URIs as pgx reads them, which is what kine and K3s use.
#include "store/sql/endpoint_int.h"
#include "base/buf.h"
#include "store/store.h"
#include <stdlib.h>
#include <unistd.h>

// What goes to libpq under its own name; everything else is a setting of the session.
static const char *const libpq_words[] = {
    "passfile",
    "application_name",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
    "gssencmode",
    "sslmode",
    "sslcompression",
    "sslpassword",
    "sslcrl",
    "sslcrldir",
    "sslsni",
    "requirepeer",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
    "krbsrvname",
    "gsslib",
    "target_session_attrs",
    "channel_binding",
    "hostaddr",
};

// Of pgx and of what we choose ourselves.
static const char *const ignored_words[] = {
    "servicefile",
    "krbspn",
    "client_encoding",
    "default_query_exec_mode",
    "statement_cache_capacity",
    "description_cache_capacity",
    "pool_max_conns",
    "pool_min_conns",
    "pool_max_conn_lifetime",
    "pool_max_conn_idle_time",
    "pool_health_check_period",
    "pool_max_conn_lifetime_jitter",
};

static const char *const ca_bundles[] = {
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
};

static bool is_one_of(const char *word, const char *const *words, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(word, words[i]) == 0)
            return true;
    }
    return false;
}

// ---- user and hosts ----

static int parse_user(const struct kl_endpoint_text *t, struct kl_str s, struct kl_endpoint *e,
                      struct kl_error *err)
{
    ptrdiff_t colon = kl_str_chr(s, ':');
    struct kl_str user = {s.p, colon < 0 ? s.n : (size_t)colon};
    int r = kl_endpoint_set(&e->user, user, true, false);
    if (!r && colon >= 0)
        r = kl_endpoint_set(&e->password, kl_str_from(s, user.n + 1), true, false);
    if (r == KL_EINVALID)
        kl_endpoint_bad(t, err, "the percent-encoding of user or password is broken");
    return r;
}

static int join(struct kl_buf *b, bool first, const char *s)
{
    if (!first)
        kl_buf_putc(b, ',');
    return kl_buf_puts(b, kl_str(s));
}

static int parse_hosts(const struct kl_endpoint_text *t, struct kl_str s, struct kl_endpoint *e,
                       struct kl_error *err)
{
    struct kl_buf hosts, ports;
    struct kl_str one;
    int r = 0;
    kl_buf_init(&hosts, 8192);
    kl_buf_init(&ports, 8192);
    for (bool first = true; !r && s.n && kl_str_split(&s, ',', &one);) {
        char *host = NULL, *port = NULL;
        if (!one.n)
            continue;
        r = kl_endpoint_set_host(t, one, true, &host, &port, err);
        if (!r) {
            join(&hosts, first, host ? host : "localhost");
            r = join(&ports, first, port ? port : "5432");
            first = false;
        }
        free(host);
        free(port);
    }
    if (!r)
        r = kl_endpoint_set(&e->host, kl_buf_str(&hosts), false, false);
    if (!r)
        r = kl_endpoint_set(&e->port, kl_buf_str(&ports), false, false);
    kl_buf_fini(&hosts);
    kl_buf_fini(&ports);
    return r;
}

// ---- the query ----

// "-c name=value", as libpq's `options` wants it.
static int add_setting(struct kl_buf *b, const char *name, const char *value)
{
    kl_buf_puts(b, b->n ? KL_STR(" -c ") : KL_STR("-c "));
    kl_buf_puts(b, kl_str(name));
    kl_buf_putc(b, '=');
    for (; *value; value++) {
        if (*value == ' ' || *value == '\\')
            kl_buf_putc(b, '\\');
        kl_buf_putc(b, *value);
    }
    return b->err;
}

static bool is_setting(const char *name)
{
    for (const char *p = name; *p; p++) {
        bool ok = (*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || *p == '_' ||
                  (p > name && ((*p >= '0' && *p <= '9') || *p == '.'));
        if (!ok)
            return false;
    }
    return true;
}

static char **field_of(struct kl_endpoint *e, const char *name)
{
    const struct {
        const char *name;
        char **field;
    } fields[] = {
        {"user", &e->user},        {"password", &e->password}, {"host", &e->host},
        {"port", &e->port},        {"dbname", &e->db},         {"database", &e->db},
        {"sslcert", &e->certfile}, {"sslkey", &e->keyfile},    {"sslrootcert", &e->cafile},
    };
    for (size_t i = 0; i < KL_COUNT(fields); i++) {
        if (strcmp(fields[i].name, name) == 0)
            return fields[i].field;
    }
    return NULL;
}

static int parse_timeout(const struct kl_endpoint_text *t, const char *value, struct kl_endpoint *e,
                         struct kl_error *err)
{
    uint64_t n;
    if (!kl_str_to_u64(kl_str(value), &n) || n > 3600)
        return kl_endpoint_bad(t, err, "connect_timeout is not a number of seconds");
    if (n)
        e->connect_timeout_s = (int)n;
    return 0;
}

static int parse_one(const struct kl_endpoint_text *t, const char *name, const char *value,
                     struct kl_endpoint *e, struct kl_buf *options, struct kl_error *err)
{
    char **field = field_of(e, name);
    if (field)
        return kl_endpoint_set(field, kl_str(value), false, false);
    if (strcmp(name, "connect_timeout") == 0)
        return parse_timeout(t, value, e, err);
    if (strcmp(name, "service") == 0)
        return kl_endpoint_bad(t, err, "connection service files are not supported");
    if (is_one_of(name, ignored_words, KL_COUNT(ignored_words)))
        return 0;
    if (is_one_of(name, libpq_words, KL_COUNT(libpq_words)))
        return kl_endpoint_find(e, name) ? 0 : kl_endpoint_param(e, name, value);
    if (strcmp(name, "options") == 0) {
        if (options->n)
            kl_buf_putc(options, ' ');
        return kl_buf_puts(options, kl_str(value));
    }
    if (!is_setting(name))
        return kl_endpoint_bad(t, err, "a parameter's name is neither libpq's nor a setting's");
    return add_setting(options, name, value);
}

static int parse_query(const struct kl_endpoint_text *t, struct kl_str query, struct kl_endpoint *e,
                       struct kl_error *err)
{
    struct kl_buf options;
    char *name, *value;
    int r;
    kl_buf_init(&options, 8192);
    while ((r = kl_endpoint_next_query(&query, &name, &value)) > 0) {
        r = parse_one(t, name, value, e, &options, err);
        explicit_bzero(value, strlen(value));
        free(name);
        free(value);
        if (r)
            break;
    }
    if (r == KL_EINVALID && !err->code)
        kl_endpoint_bad(t, err, "the query's percent-encoding is broken");
    kl_buf_putc(&options, 0);
    if (!r && options.err)
        r = options.err == KL_ENOMEM ? KL_ENOMEM : kl_endpoint_bad(t, err, "too many settings");
    if (!r && options.n > 1)
        r = kl_endpoint_param(e, "options", options.p);
    kl_buf_fini(&options);
    return r;
}

// ---- TLS ----

static int set_file(char **field, const char *path)
{
    return *field || !path || !*path ? 0 : kl_endpoint_set(field, kl_str(path), false, false);
}

// Files of our flags mean verify-full, as with kine; otherwise libpq's default.
static int set_tls(const struct kl_endpoint_text *t, const struct kl_store_options *o,
                   struct kl_endpoint *e, struct kl_error *err)
{
    static const struct {
        const char *mode;
        enum kl_endpoint_tls tls;
    } modes[] = {
        {"disable", KL_ENDPOINT_TLS_OFF},      {"allow", KL_ENDPOINT_TLS_PREFER},
        {"prefer", KL_ENDPOINT_TLS_PREFER},    {"require", KL_ENDPOINT_TLS_REQUIRE},
        {"verify-ca", KL_ENDPOINT_TLS_VERIFY}, {"verify-full", KL_ENDPOINT_TLS_VERIFY},
    };
    const char *mode = kl_endpoint_find(e, "sslmode");
    bool files = (o->cafile && *o->cafile) || (o->certfile && *o->certfile);
    int r = 0;
    if (!mode) {
        mode = files ? "verify-full" : "prefer";
        r = kl_endpoint_param(e, "sslmode", mode);
    }
    size_t i = 0;
    while (i < KL_COUNT(modes) && strcmp(mode, modes[i].mode) != 0)
        i++;
    if (i == KL_COUNT(modes))
        return kl_endpoint_bad(t, err,
                               "sslmode is one of disable, allow, prefer, require, verify-ca, "
                               "verify-full");
    e->tls = modes[i].tls;
    if (!r)
        r = set_file(&e->cafile, o->cafile);
    if (!r)
        r = set_file(&e->certfile, o->certfile);
    if (!r)
        r = set_file(&e->keyfile, o->keyfile);
    // libpq 15 does not know the system's authorities by itself.
    bool system = !e->cafile || strcmp(e->cafile, "system") == 0;
    if (e->tls == KL_ENDPOINT_TLS_VERIFY && system) {
        for (i = 0; i < KL_COUNT(ca_bundles); i++) {
            if (!r && access(ca_bundles[i], R_OK) == 0)
                return kl_endpoint_set(&e->cafile, kl_str(ca_bundles[i]), false, false);
        }
    }
    return r;
}

// ---- whole ----

static int check_ports(const struct kl_endpoint_text *t, const struct kl_endpoint *e,
                       struct kl_error *err)
{
    struct kl_str rest = kl_str(e->port), one;
    uint64_t n;
    while (e->port && kl_str_split(&rest, ',', &one)) {
        if (!kl_str_to_u64(one, &n) || n == 0 || n > 65535)
            return kl_endpoint_bad(t, err, "the port is not a number from 1 to 65535");
    }
    return 0;
}

static int set_defaults(struct kl_endpoint *e)
{
    int r = 0;
    if (!e->db)
        r = kl_endpoint_set(&e->db, KL_STR("kubernetes"), false, false);
    if (!r && !e->host)
        r = kl_endpoint_set(&e->host, KL_STR("localhost"), false, false);
    if (!r && !e->port)
        r = kl_endpoint_set(&e->port, KL_STR("5432"), false, false);
    if (r)
        return r;
    for (char *p = e->db; *p; p++) { // kine's: as PostgreSQL folds names that are not quoted
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p - 'A' + 'a');
    }
    return 0;
}

static struct kl_str until(struct kl_str s, const char *stops)
{
    size_t n = 0;
    while (n < s.n && !strchr(stops, s.p[n]))
        n++;
    return (struct kl_str){s.p, n};
}

int kl_endpoint_parse_pg(const struct kl_endpoint_text *t, const struct kl_store_options *o,
                         struct kl_endpoint *e, struct kl_error *err)
{
    struct kl_str rest = t->rest.n ? t->rest : KL_STR("postgres:postgres@localhost/");
    struct kl_error ours = {0};
    if (kl_str_chr(rest, '#') >= 0)
        return kl_endpoint_bad(t, err, "\"#\" needs percent-encoding");
    struct kl_str authority = until(rest, "/?");
    struct kl_str after = kl_str_from(rest, authority.n);
    struct kl_str path = until(after, "?");
    struct kl_str query = kl_str_from(after, path.n + 1);
    size_t at = authority.n;
    while (at > 0 && authority.p[at - 1] != '@')
        at--;
    int r = 0;
    if (at)
        r = parse_user(t, (struct kl_str){authority.p, at - 1}, e, &ours);
    if (!r)
        r = parse_hosts(t, kl_str_from(authority, at), e, &ours);
    while (path.n && path.p[0] == '/')
        path = kl_str_from(path, 1);
    if (!r && (r = kl_endpoint_set(&e->db, path, true, false)) == KL_EINVALID)
        kl_endpoint_bad(t, &ours, "the percent-encoding of the database's name is broken");
    if (!r && query.n)
        r = parse_query(t, query, e, &ours);
    if (!r)
        r = check_ports(t, e, &ours);
    if (!r)
        r = set_tls(t, o, e, &ours);
    if (!r)
        r = set_defaults(e);
    if (r && ours.code && err)
        *err = ours;
    return r;
}
