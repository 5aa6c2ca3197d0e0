// SPDX-License-Identifier: Apache-2.0
// What PostgreSQL's and MySQL's URLs have in common, and how URLs are shown.
#include "store/sql/endpoint_int.h"
#include "base/buf.h"
#include "store/store.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { URL_MAX = 4096, PARAMS_MAX = 64, MASKED_MAX = 512 };

// ---- showing ----

// The first colon before `end` that no port follows, or `end`.
static size_t find_odd_port(struct kl_str s, size_t end)
{
    size_t colon = end;
    bool bracketed = false;
    for (size_t i = 0; i < end; i++) {
        if (s.p[i] == '[' || s.p[i] == ']')
            bracketed = s.p[i] == '[';
        else if (s.p[i] == ':' && !bracketed && colon == end)
            colon = i;
        else if (s.p[i] == ',')
            colon = end;
        else if (colon < end && (s.p[i] < '0' || s.p[i] > '9'))
            return colon;
    }
    return end;
}

// Where a password may stand in what follows "://": between the first colon and the last @. Without
// an @ somebody may have forgotten the host: then what should be a port and is no number.
static void find_password(struct kl_str s, size_t *ret_from, size_t *ret_to)
{
    size_t at = s.n;
    while (at > 0 && s.p[at - 1] != '@')
        at--;
    if (at > 0) {
        ptrdiff_t colon = kl_str_chr((struct kl_str){s.p, at}, ':');
        *ret_from = colon < 0 ? 0 : (size_t)colon + 1;
        *ret_to = colon < 0 ? 0 : at - 1;
        return;
    }
    size_t end = 0;
    while (end < s.n && !strchr("/?(", s.p[end]))
        end++;
    size_t colon = find_odd_port(s, end);
    *ret_from = colon < end ? colon + 1 : 0;
    *ret_to = colon < end ? end : 0;
}

// Values of parameters whose name says that they are secret.
static bool is_secret(struct kl_str name)
{
    static const char *const words[] = {"pass", "secret", "token"};
    for (size_t i = 0; i + 4 <= name.n; i++) {
        for (size_t k = 0; k < KL_COUNT(words); k++) {
            struct kl_str w = kl_str(words[k]);
            if (i + w.n <= name.n && kl_str_ieq((struct kl_str){name.p + i, w.n}, w))
                return true;
        }
    }
    return false;
}

static void append_query(struct kl_buf *b, struct kl_str query)
{
    struct kl_str part;
    for (bool first = true; kl_str_split(&query, '&', &part); first = false) {
        ptrdiff_t eq = kl_str_chr(part, '=');
        if (!first)
            kl_buf_putc(b, '&');
        if (eq >= 0 && is_secret((struct kl_str){part.p, (size_t)eq}))
            kl_buf_printf(b, "%.*s=xxxxx", (int)eq, part.p);
        else
            kl_buf_puts(b, part);
    }
}

// An @ in a query is none of an address: what stands before it may be parameters as well.
static void append_part(struct kl_buf *b, struct kl_str s)
{
    ptrdiff_t query = kl_str_chr(s, '?');
    size_t n = query < 0 ? s.n : (size_t)query + 1;
    kl_buf_puts(b, (struct kl_str){s.p, n});
    if (query >= 0)
        append_query(b, kl_str_from(s, n));
}

// What follows a mask within a query: the rest of that parameter is masked with it.
static void append_parameters(struct kl_buf *b, struct kl_str rest)
{
    ptrdiff_t next = kl_str_chr(rest, '&');
    if (next < 0)
        return;
    kl_buf_putc(b, '&');
    append_query(b, kl_str_from(rest, (size_t)next + 1));
}

static bool is_path(struct kl_str scheme)
{
    static const char *const paths[] = {"sqlite", "memory", "raft", "shared"};
    for (size_t i = 0; i < KL_COUNT(paths); i++) {
        if (kl_str_ends(scheme, kl_str(paths[i])))
            return true;
    }
    return false;
}

const char *kl_endpoint_redact(const char *url, char *ret, size_t cap)
{
    const char *sep = strstr(url, "://");
    struct kl_str scheme = {url, sep ? (size_t)(sep - url) : 0};
    struct kl_str rest = kl_str(sep ? sep + 3 : url);
    struct kl_buf b;
    kl_buf_init(&b, 4 * URL_MAX);
    if (sep)
        kl_buf_puts(&b, (struct kl_str){url, scheme.n + 3});
    if (sep && is_path(scheme)) {
        kl_buf_puts(&b, rest);
    } else {
        size_t from, to;
        find_password(rest, &from, &to);
        struct kl_str before = {rest.p, from}, after = kl_str_from(rest, to);
        append_part(&b, before);
        if (to > from)
            kl_buf_puts(&b, KL_STR("xxxxx"));
        struct kl_str mask = {rest.p + from, to - from};
        bool in_query = kl_str_chr(before, '?') >= 0, begins = kl_str_chr(mask, '?') >= 0;
        ptrdiff_t next = begins ? kl_str_chr(after, '&') : -1;
        if (!in_query && !(begins && kl_str_chr(mask, '=') >= 0))
            append_part(&b, next < 0 ? after : (struct kl_str){after.p, (size_t)next});
        if (in_query || begins)
            append_parameters(&b, after);
    }
    for (size_t i = 0; i < b.n; i++) {
        if ((unsigned char)b.p[i] < ' ' || b.p[i] == 0x7f)
            b.p[i] = '?'; // one line
    }
    if (cap)
        snprintf(ret, cap, "%.*s", (int)b.n, b.n ? b.p : "");
    kl_buf_fini(&b);
    return ret;
}

const char *kl_endpoint_name(const struct kl_endpoint *e, char *ret, size_t cap)
{
    if (e->socket)
        snprintf(ret, cap, "unix(%s)/%s", e->socket, e->db);
    else if (e->host && strchr(e->host, ':') && !strchr(e->host, ','))
        snprintf(ret, cap, "[%s]:%s/%s", e->host, e->port, e->db);
    else
        snprintf(ret, cap, "%s:%s/%s", e->host ? e->host : "localhost", e->port ? e->port : "",
                 e->db);
    return ret;
}

// ---- pieces ----

int kl_endpoint_bad(const struct kl_endpoint_text *t, struct kl_error *err, const char *fmt, ...)
{
    char url[URL_MAX + 32], shown[MASKED_MAX], why[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof(why), fmt, ap);
    va_end(ap);
    snprintf(url, sizeof(url), "%s%.*s", t->scheme, KL_PRI(t->rest));
    return kl_error_set(err, KL_EINVALID, "datastore %s: %s",
                        kl_endpoint_redact(url, shown, sizeof(shown)), why);
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int kl_endpoint_set(char **field, struct kl_str s, bool decode, bool plus)
{
    free(*field);
    *field = NULL;
    if (!s.n)
        return 0;
    char *p = malloc(s.n + 1);
    size_t n = 0;
    if (!p)
        return KL_ENOMEM;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        if (decode && c == '%') {
            int hi = i + 2 < s.n ? hex_digit(s.p[i + 1]) : -1;
            int lo = hi >= 0 ? hex_digit(s.p[i + 2]) : -1;
            if (lo < 0) {
                free(p);
                return KL_EINVALID;
            }
            c = (char)(hi << 4 | lo);
            i += 2;
        } else if (plus && c == '+') {
            c = ' ';
        }
        p[n++] = c;
    }
    p[n] = 0;
    if (memchr(p, 0, n)) {
        free(p);
        return KL_EINVALID;
    }
    *field = p;
    return 0;
}

const char *kl_endpoint_find(const struct kl_endpoint *e, const char *name)
{
    for (size_t i = 0; i < e->nparams; i++) {
        if (strcmp(e->params[i].name, name) == 0)
            return e->params[i].value;
    }
    return NULL;
}

int kl_endpoint_param(struct kl_endpoint *e, const char *name, const char *value)
{
    if (e->nparams == PARAMS_MAX)
        return KL_EINVALID;
    if (!e->params && !(e->params = calloc(PARAMS_MAX, sizeof(*e->params))))
        return KL_ENOMEM;
    struct kl_endpoint_param *p = &e->params[e->nparams];
    p->name = strdup(name);
    p->value = strdup(value);
    e->nparams++;
    return p->name && p->value ? 0 : KL_ENOMEM;
}

int kl_endpoint_next_query(struct kl_str *rest, char **ret_name, char **ret_value)
{
    struct kl_str part;
    *ret_name = *ret_value = NULL;
    do {
        if (!kl_str_split(rest, '&', &part))
            return 0;
    } while (!part.n);
    ptrdiff_t eq = kl_str_chr(part, '=');
    struct kl_str name = {part.p, eq < 0 ? part.n : (size_t)eq};
    int r = kl_endpoint_set(ret_name, name, true, true);
    if (!r && eq >= 0)
        r = kl_endpoint_set(ret_value, kl_str_from(part, name.n + 1), true, true);
    if (!r && !*ret_name)
        r = KL_EINVALID;
    if (!r && !*ret_value && !(*ret_value = strdup("")))
        r = KL_ENOMEM;
    if (r) {
        free(*ret_name);
        free(*ret_value);
        *ret_name = *ret_value = NULL;
        return r;
    }
    return 1;
}

int kl_endpoint_set_host(const struct kl_endpoint_text *t, struct kl_str s, bool decode,
                         char **ret_host, char **ret_port, struct kl_error *err)
{
    struct kl_str host = s, port = {NULL, 0};
    bool bracketed = s.n && s.p[0] == '[';
    size_t at = 0;
    if (bracketed) {
        ptrdiff_t close = kl_str_chr(s, ']');
        if (close < 0)
            return kl_endpoint_bad(t, err, "an IPv6 address ends with \"]\"");
        host = (struct kl_str){s.p + 1, (size_t)close - 1};
        at = (size_t)close + 1;
        if (at < s.n && s.p[at] != ':')
            return kl_endpoint_bad(t, err, "after \"]\" only a colon and the port may follow");
    } else {
        ptrdiff_t colon = kl_str_chr(s, ':');
        at = colon < 0 ? s.n : (size_t)colon;
        host.n = at;
    }
    if (at < s.n)
        port = kl_str_from(s, at + 1);
    uint64_t n = 0;
    if (port.n && (!kl_str_to_u64(port, &n) || n == 0 || n > 65535))
        // It may be a piece of a password: not shown.
        return kl_endpoint_bad(t, err,
                               "the port is not a number from 1 to 65535; special characters of "
                               "user and password need percent-encoding");
    int r = kl_endpoint_set(ret_host, host, decode, false);
    if (!r)
        r = kl_endpoint_set(ret_port, port, false, false);
    return r == KL_EINVALID ? kl_endpoint_bad(t, err, "the host's percent-encoding is broken") : r;
}

// ---- whole ----

static int check_text(const struct kl_endpoint_text *t, struct kl_error *err)
{
    if (t->rest.n > URL_MAX)
        return kl_error_set(err, KL_EINVALID, "datastore %s...: longer than %d bytes", t->scheme,
                            URL_MAX);
    for (size_t i = 0; i < t->rest.n; i++) {
        unsigned char c = (unsigned char)t->rest.p[i];
        if (c < ' ' || c == 0x7f)
            return kl_endpoint_bad(t, err, "control characters need percent-encoding");
    }
    return 0;
}

int kl_endpoint_parse(enum kl_endpoint_kind kind, struct kl_str rest,
                      const struct kl_store_options *o, struct kl_endpoint *ret_e,
                      struct kl_error *err)
{
    static const struct kl_store_options none;
    bool pg = kind == KL_ENDPOINT_POSTGRES;
    struct kl_endpoint_text t = {pg ? "postgres://" : "mysql://", rest};
    struct kl_endpoint e = {.kind = kind, .connect_timeout_s = 10};
    if (!o)
        o = &none;
    int r = check_text(&t, err);
    if (!r)
        r = pg ? kl_endpoint_parse_pg(&t, o, &e, err) : kl_endpoint_parse_my(&t, o, &e, err);
    if (!r && strlen(e.db) > (pg ? 63u : 64u))
        r = kl_endpoint_bad(&t, err, "the database's name is too long");
    if (!r && (!e.certfile != !e.keyfile))
        r = kl_endpoint_bad(&t, err, "a client certificate needs both its file and its key's");
    if (r == KL_ENOMEM)
        kl_error_set(err, r, "out of memory");
    if (r) {
        kl_endpoint_fini(&e);
        return r;
    }
    *ret_e = e;
    return 0;
}

void kl_endpoint_fini(struct kl_endpoint *e)
{
    if (e->password)
        explicit_bzero(e->password, strlen(e->password));
    char *const all[] = {e->user, e->password, e->host,     e->port,   e->socket,
                         e->db,   e->cafile,   e->certfile, e->keyfile};
    for (size_t i = 0; i < KL_COUNT(all); i++)
        free(all[i]);
    for (size_t i = 0; i < e->nparams; i++) {
        if (e->params[i].value)
            explicit_bzero(e->params[i].value, strlen(e->params[i].value));
        free(e->params[i].name);
        free(e->params[i].value);
    }
    free(e->params);
    memset(e, 0, sizeof(*e));
}
