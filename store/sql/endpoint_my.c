// SPDX-License-Identifier: Apache-2.0
// The data source names of Go's MySQL driver, [user[:password]@][net[(address)]]/db[?a=b&...],
// which is what kine and K3s use; and plain URLs beside them.
#include "store/sql/endpoint_int.h"
#include "store/store.h"
#include <stdlib.h>

// Options of Go's driver that are ours to choose or that say nothing to us.
static const char *const ignored_words[] = {
    "allowAllFiles",
    "allowCleartextPasswords",
    "allowFallbackToPlaintext",
    "allowNativePasswords",
    "allowOldPasswords",
    "autocommit",
    "checkConnLiveness",
    "clientFoundRows",
    "charset",
    "collation",
    "columnsWithAlias",
    "compress",
    "connectionAttributes",
    "interpolateParams",
    "loc",
    "maxAllowedPacket",
    "multiStatements",
    "parseTime",
    "readTimeout",
    "rejectReadOnly",
    "serverPubKey",
    "sql_mode",
    "strict",
    "timeTruncate",
    "transaction_isolation",
    "tx_isolation",
    "writeTimeout",
};

// ---- the query ----

// Go's time.Duration, in seconds rounded up: "5s", "1m30s", "300ms", "1.5s".
static bool parse_duration(const char *s, int *ret_s)
{
    static const struct {
        const char *unit;
        double ms;
    } units[] = {{"ns", 1e-6}, {"us", 1e-3}, {"ms", 1}, {"s", 1e3}, {"m", 6e4}, {"h", 3.6e6}};
    double ms = 0;
    if (strcmp(s, "0") == 0) {
        *ret_s = 0;
        return true;
    }
    if (!*s)
        return false;
    while (*s) {
        char *end;
        size_t digits = strspn(s, "0123456789.");
        double n = digits && digits < 12 ? strtod(s, &end) : -1;
        if (n < 0 || end != s + digits)
            return false;
        s = end;
        size_t len = strcspn(s, "0123456789."), i = 0;
        while (i < KL_COUNT(units) && !kl_str_eq((struct kl_str){s, len}, kl_str(units[i].unit)))
            i++;
        if (i == KL_COUNT(units))
            return false;
        ms += n * units[i].ms;
        s += len;
    }
    if (ms > 3600e3)
        return false;
    *ret_s = (int)((ms + 999) / 1000);
    return true;
}

static bool is_true(const char *v)
{
    return !strcmp(v, "1") || !strcmp(v, "true") || !strcmp(v, "TRUE") || !strcmp(v, "True");
}

static bool is_false(const char *v)
{
    return !strcmp(v, "0") || !strcmp(v, "false") || !strcmp(v, "FALSE") || !strcmp(v, "False");
}

static int parse_tls(const struct kl_endpoint_text *t, const char *value, struct kl_endpoint *e,
                     struct kl_error *err)
{
    if (is_true(value))
        e->tls = KL_ENDPOINT_TLS_VERIFY;
    else if (is_false(value))
        e->tls = KL_ENDPOINT_TLS_OFF;
    else if (kl_str_ieq(kl_str(value), KL_STR("skip-verify")))
        e->tls = KL_ENDPOINT_TLS_REQUIRE;
    else if (kl_str_ieq(kl_str(value), KL_STR("preferred")))
        e->tls = KL_ENDPOINT_TLS_PREFER;
    else
        return kl_endpoint_bad(t, err, "tls is one of true, false, skip-verify, preferred");
    return 0;
}

// A variable of the session goes into a SET as it stands, as with Go's driver.
static bool is_variable(const char *name)
{
    return strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") ==
           strlen(name);
}

static int parse_one(const struct kl_endpoint_text *t, const char *name, const char *value,
                     struct kl_endpoint *e, struct kl_error *err)
{
    if (strcmp(name, "tls") == 0)
        return parse_tls(t, value, e, err);
    if (strcmp(name, "timeout") == 0) {
        int s;
        if (!parse_duration(value, &s))
            return kl_endpoint_bad(t, err, "timeout is a duration of at most an hour, as 5s");
        if (s)
            e->connect_timeout_s = s;
        return 0;
    }
    for (size_t i = 0; i < KL_COUNT(ignored_words); i++) {
        if (strcmp(name, ignored_words[i]) == 0)
            return 0;
    }
    if (!is_variable(name) || !*value)
        return kl_endpoint_bad(t, err,
                               "a parameter is neither the driver's nor name=value of a "
                               "variable of the session");
    return kl_endpoint_param(e, name, value);
}

static int parse_query(const struct kl_endpoint_text *t, struct kl_str query, struct kl_endpoint *e,
                       struct kl_error *err)
{
    char *name, *value;
    int r;
    while ((r = kl_endpoint_next_query(&query, &name, &value)) > 0) {
        r = parse_one(t, name, value, e, err);
        free(name);
        free(value);
        if (r)
            break;
    }
    if (r == KL_EINVALID && !err->code)
        kl_endpoint_bad(t, err, "the query's percent-encoding is broken, or it has too much");
    return r;
}

// ---- address ----

static int set_address(const struct kl_endpoint_text *t, struct kl_str net, struct kl_str address,
                       struct kl_endpoint *e, struct kl_error *err)
{
    if (kl_str_eqz(net, "unix")) {
        struct kl_str path = address.n ? address : KL_STR("/tmp/mysql.sock");
        if (path.p[0] != '/' || path.n > 107)
            return kl_endpoint_bad(t, err, "a socket's path is absolute, of at most 107 bytes");
        return kl_endpoint_set(&e->socket, path, false, false);
    }
    if (net.n && !kl_str_eqz(net, "tcp") && !kl_str_eqz(net, "tcp4") && !kl_str_eqz(net, "tcp6"))
        return kl_endpoint_bad(t, err, "the network before the address is tcp or unix");
    int r = 0;
    if (address.n)
        r = kl_endpoint_set_host(t, address, false, &e->host, &e->port, err);
    if (!r && !e->host)
        r = kl_endpoint_set(&e->host, KL_STR("127.0.0.1"), false, false);
    if (!r && !e->port)
        r = kl_endpoint_set(&e->port, KL_STR("3306"), false, false);
    return r;
}

static bool is_net(struct kl_str s)
{
    return !s.n || kl_str_eqz(s, "tcp") || kl_str_eqz(s, "unix") || kl_str_eqz(s, "tcp4") ||
           kl_str_eqz(s, "tcp6");
}

// What stands before the last slash.
static int parse_left(const struct kl_endpoint_text *t, struct kl_str left, struct kl_endpoint *e,
                      struct kl_error *err)
{
    size_t at = left.n;
    while (at > 0 && left.p[at - 1] != '@')
        at--;
    struct kl_str who = {left.p, at ? at - 1 : 0}, where = kl_str_from(left, at);
    ptrdiff_t open = kl_str_chr(where, '(');
    bool url = open < 0 && !is_net(where);
    struct kl_str net = {where.p, open < 0 ? where.n : (size_t)open}, address = {NULL, 0};
    if (open >= 0) {
        if (where.p[where.n - 1] != ')')
            return kl_endpoint_bad(t, err,
                                   "the address ends with \")\", and the database's name follows "
                                   "after a slash");
        address = (struct kl_str){where.p + open + 1, where.n - (size_t)open - 2};
    } else if (url) {
        address = where;
        net.n = 0;
    }
    ptrdiff_t colon = kl_str_chr(who, ':');
    struct kl_str user = {who.p, colon < 0 ? who.n : (size_t)colon};
    int r = kl_endpoint_set(&e->user, user, url, false);
    if (!r && colon >= 0)
        r = kl_endpoint_set(&e->password, kl_str_from(who, user.n + 1), url, false);
    if (r == KL_EINVALID)
        return kl_endpoint_bad(t, err, "the percent-encoding of user or password is broken");
    return r ? r : set_address(t, net, address, e, err);
}

// ---- whole ----

static int set_file(char **field, const char *path)
{
    return !path || !*path ? 0 : kl_endpoint_set(field, kl_str(path), false, false);
}

int kl_endpoint_parse_my(const struct kl_endpoint_text *t, const struct kl_store_options *o,
                         struct kl_endpoint *e, struct kl_error *err)
{
    bool files = (o->cafile && *o->cafile) || (o->certfile && *o->certfile);
    struct kl_str rest = t->rest;
    struct kl_error ours = {0};
    if (!rest.n)
        rest = files ? KL_STR("root@tcp(127.0.0.1)/")
                     : KL_STR("root@unix(/var/run/mysqld/mysqld.sock)/");
    size_t slash = rest.n;
    while (slash > 0 && rest.p[slash - 1] != '/')
        slash--;
    if (!slash)
        return kl_endpoint_bad(t, err, "the slash before the database's name is missing");
    struct kl_str db = kl_str_from(rest, slash), query = {NULL, 0};
    ptrdiff_t mark = kl_str_chr(db, '?');
    if (mark >= 0) {
        query = kl_str_from(db, (size_t)mark + 1);
        db.n = (size_t)mark;
    }
    int r = parse_left(t, (struct kl_str){rest.p, slash - 1}, e, &ours);
    if (!r && (r = kl_endpoint_set(&e->db, db, true, false)) == KL_EINVALID)
        kl_endpoint_bad(t, &ours, "the percent-encoding of the database's name is broken");
    if (!r && query.n)
        r = parse_query(t, query, e, &ours);
    if (!r && files)
        e->tls = KL_ENDPOINT_TLS_VERIFY;
    if (!r)
        r = set_file(&e->cafile, o->cafile);
    if (!r)
        r = set_file(&e->certfile, o->certfile);
    if (!r)
        r = set_file(&e->keyfile, o->keyfile);
    if (!r && !e->db)
        r = kl_endpoint_set(&e->db, KL_STR("kubernetes"), false, false);
    if (r && ours.code && err)
        *err = ours;
    return r;
}
