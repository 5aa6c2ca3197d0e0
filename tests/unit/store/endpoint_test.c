// SPDX-License-Identifier: Apache-2.0
// Datastore URLs: every form that kine and K3s accept, what is refused, and that no message shows a
// password.
#include "store/sql/endpoint.h"
#include "store/store.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#define NO NULL
enum { PG = KL_ENDPOINT_POSTGRES, MY = KL_ENDPOINT_MYSQL };
enum {
    OFF = KL_ENDPOINT_TLS_OFF,
    PREFER = KL_ENDPOINT_TLS_PREFER,
    REQUIRE = KL_ENDPOINT_TLS_REQUIRE,
    VERIFY = KL_ENDPOINT_TLS_VERIFY
};

struct good {
    int kind;
    const char *rest;
    const char *user, *password, *host, *port, *socket, *db;
    int tls;
    const char *params; // "a=b c=d"
};

static const struct good goods[] = {
    // MySQL: kine's default, K3s' documentation, go-sql-driver's README.
    {MY, "", "root", NO, NO, NO, "/var/run/mysqld/mysqld.sock", "kubernetes", OFF, ""},
    {MY, "u:p@tcp(h:3307)/db", "u", "p", "h", "3307", NO, "db", OFF, ""},
    {MY, "u:p@tcp(h)/", "u", "p", "h", "3306", NO, "kubernetes", OFF, ""},
    {MY, "u@unix(/run/my sql.sock)/db", "u", NO, NO, NO, "/run/my sql.sock", "db", OFF, ""},
    {MY, "/", NO, NO, "127.0.0.1", "3306", NO, "kubernetes", OFF, ""},
    {MY, "/db", NO, NO, "127.0.0.1", "3306", NO, "db", OFF, ""},
    {MY, "u:p@/db", "u", "p", "127.0.0.1", "3306", NO, "db", OFF, ""},
    {MY, "u:p@tcp/db", "u", "p", "127.0.0.1", "3306", NO, "db", OFF, ""},
    {MY, "u:p@unix/db", "u", "p", NO, NO, "/tmp/mysql.sock", "db", OFF, ""},
    {MY, "u:p@tcp([de:ad:be:ef::ca:fe]:80)/db", "u", "p", "de:ad:be:ef::ca:fe", "80", NO, "db", OFF,
     ""},
    {MY, "u:p@tcp([::1])/db", "u", "p", "::1", "3306", NO, "db", OFF, ""},
    // The last @ before the last slash ends the password; nothing in it is decoded.
    {MY, "u:p@ss/w:r%41@tcp(h:1)/db", "u", "p@ss/w:r%41", "h", "1", NO, "db", OFF, ""},
    {MY, "u:p?a=b@tcp(h:1)/db", "u", "p?a=b", "h", "1", NO, "db", OFF, ""},
    {MY, "u:@tcp(h:1)/db", "u", NO, "h", "1", NO, "db", OFF, ""},
    {MY, "u:p@tcp(h:1)/d%2Fb%3F", "u", "p", "h", "1", NO, "d/b?", OFF, ""},
    {MY, "u:p@tcp(h:1)/db?tls=true", "u", "p", "h", "1", NO, "db", VERIFY, ""},
    {MY, "u:p@tcp(h:1)/db?tls=skip-verify&parseTime=true&charset=utf8mb4", "u", "p", "h", "1", NO,
     "db", REQUIRE, ""},
    {MY, "u:p@tcp(h:1)/db?tls=preferred&loc=US%2FPacific&wsrep_sync_wait=1", "u", "p", "h", "1", NO,
     "db", PREFER, "wsrep_sync_wait=1"},
    {MY, "u:p@tcp(h:1)/db?tls=false&time_zone=%27Europe%2FParis%27&sql_mode=x", "u", "p", "h", "1",
     NO, "db", OFF, "time_zone='Europe/Paris'"},
    // As any URL: decoded.
    {MY, "u%3A:p%40%2F@h:1/db", "u:", "p@/", "h", "1", NO, "db", OFF, ""},
    {MY, "u:p@[::1]:1/db", "u", "p", "::1", "1", NO, "db", OFF, ""},
    {MY, "u:p@h/db", "u", "p", "h", "3306", NO, "db", OFF, ""},
    {MY, "h:1/db", NO, NO, "h", "1", NO, "db", OFF, ""},

    // PostgreSQL: kine's default, K3s' documentation, libpq's.
    {PG, "", "postgres", "postgres", "localhost", "5432", NO, "kubernetes", PREFER,
     "sslmode=prefer"},
    {PG, "u:p@h:5433/db?sslmode=disable", "u", "p", "h", "5433", NO, "db", OFF, "sslmode=disable"},
    {PG, "u:p@h", "u", "p", "h", "5432", NO, "kubernetes", PREFER, "sslmode=prefer"},
    {PG, "u:p@h/", "u", "p", "h", "5432", NO, "kubernetes", PREFER, "sslmode=prefer"},
    {PG, "u:p@h/?sslmode=require", "u", "p", "h", "5432", NO, "kubernetes", REQUIRE,
     "sslmode=require"},
    {PG, "u:p@h?sslmode=require", "u", "p", "h", "5432", NO, "kubernetes", REQUIRE,
     "sslmode=require"},
    {PG, "h/KubeRnetes", NO, NO, "h", "5432", NO, "kubernetes", PREFER, "sslmode=prefer"},
    {PG, "u%40x:p%3A%2F%3F%23%5B%5D%40%25@h/db", "u@x", "p:/?#[]@%", "h", "5432", NO, "db", PREFER,
     "sslmode=prefer"},
    {PG, "u:p@x@h/db", "u", "p@x", "h", "5432", NO, "db", PREFER, "sslmode=prefer"},
    {PG, "u:a+b@h/db", "u", "a+b", "h", "5432", NO, "db", PREFER, "sslmode=prefer"},
    {PG, "u@[::1]:7/db", "u", NO, "::1", "7", NO, "db", PREFER, "sslmode=prefer"},
    {PG, "u@[2001:db8::1]/db", "u", NO, "2001:db8::1", "5432", NO, "db", PREFER, "sslmode=prefer"},
    {PG, "u:p@a:1,b,c:3/db", "u", "p", "a,b,c", "1,5432,3", NO, "db", PREFER, "sslmode=prefer"},
    {PG, "/db?host=/run/postgresql&user=u&password=p", "u", "p", "/run/postgresql", "5432", NO,
     "db", PREFER, "sslmode=prefer"},
    {PG, "u@%2Frun%2Fpostgresql:6/db", "u", NO, "/run/postgresql", "6", NO, "db", PREFER,
     "sslmode=prefer"},
    {PG, "u:p@h/db?dbname=other&port=99", "u", "p", "h", "99", NO, "other", PREFER,
     "sslmode=prefer"},
    {PG,
     "u:p@h/db?sslmode=disable&search_path=a%20b&application_name=x&pool_max_conns=4&statement_"
     "timeout=5",
     "u", "p", "h", "5432", NO, "db", OFF,
     "sslmode=disable application_name=x options=-c search_path=a\\ b -c statement_timeout=5"},
    {PG, "u:p@h/db?sslmode=disable&options=-c%20geqo%3Doff", "u", "p", "h", "5432", NO, "db", OFF,
     "sslmode=disable options=-c geqo=off"},
};

static void same(const char *url, const char *what, const char *have, const char *want)
{
    if ((!have != !want) || (have && strcmp(have, want) != 0))
        fail_msg("%s: %s is %s, expected %s", url, what, have ? have : "(none)",
                 want ? want : "(none)");
}

static void join_params(const struct kl_endpoint *e, char *ret, size_t cap)
{
    size_t n = 0;
    ret[0] = 0;
    for (size_t i = 0; i < e->nparams; i++)
        n += (size_t)snprintf(ret + n, cap - n, "%s%s=%s", i ? " " : "", e->params[i].name,
                              e->params[i].value);
}

static void taken_apart(void **state)
{
    for (size_t i = 0; i < KL_COUNT(goods); i++) {
        const struct good *g = &goods[i];
        struct kl_endpoint e;
        struct kl_error err;
        char params[512];
        if (kl_endpoint_parse((enum kl_endpoint_kind)g->kind, kl_str(g->rest), NULL, &e, &err))
            fail_msg("%s: %s", g->rest, err.msg);
        same(g->rest, "user", e.user, g->user);
        same(g->rest, "password", e.password, g->password);
        same(g->rest, "host", e.host, g->host);
        same(g->rest, "port", e.port, g->port);
        same(g->rest, "socket", e.socket, g->socket);
        same(g->rest, "db", e.db, g->db);
        join_params(&e, params, sizeof(params));
        same(g->rest, "params", params, g->params);
        if ((int)e.tls != g->tls)
            fail_msg("%s: tls is %d, expected %d", g->rest, e.tls, g->tls);
        assert_int_equal(e.connect_timeout_s, 10);
        kl_endpoint_fini(&e);
    }
}

struct wrong {
    int kind;
    const char *rest, *why;
};

static const struct wrong wrongs[] = {
    {MY, "u:hunter2@tcp(h:3306)", "slash"},
    {MY, "u:hunter2@tcp(h:3306/db", "\")\""},
    {MY, "u:hunter2@tcp(h:3306)x/db", "\")\""},
    {MY, "u:hunter2@udp(h:3306)/db", "tcp or unix"},
    {MY, "u:hunter2@tcp(h:0)/db", "port"},
    {MY, "u:hunter2@tcp(h:65536)/db", "port"},
    {MY, "u:hunter2@tcp([::1:3306)/db", "]"},
    {MY, "u:hunter2@tcp(::1)/db", "port"},
    {MY, "u:hunter2@unix(relative)/db", "absolute"},
    {MY, "u:hunter2@tcp(h:1)/%zz", "percent"},
    {MY, "u:hunter2@tcp(h:1)/a%00b", "percent"},
    {MY, "u:hunter2@tcp(h:1)/db?tls=custom", "tls"},
    {MY, "u:hunter2@tcp(h:1)/db?timeout=soon", "timeout"},
    {MY, "u:hunter2@tcp(h:1)/db?a;drop=1", "variable"},
    {MY, "u:hunter2@tcp(h:1)/db\n", "control"},
    {MY, "u:hunter2@h:1x/db", "port"},
    {MY, "u:hunter2/db", "port"},
    {PG, "u:hunter2@h:x/db", "port"},
    {PG, "u:hunter2/x@h/db", "port"},
    {PG, "u:hunter2", "port"},
    {PG, "u:hunter2%zz@h/db", "percent"},
    {PG, "u:hunter2#x@h/db", "#"},
    {PG, "u:hunter2@[::1/db", "]"},
    {PG, "u:hunter2@h/db?sslmode=maybe", "sslmode"},
    {PG, "u:hunter2@h/db?sslcert=/x", "key"},
    {PG, "u:hunter2@h/db?connect_timeout=soon", "connect_timeout"},
    {PG, "u:hunter2@h/db?port=5432,x", "port"},
    {PG, "u:hunter2@h/db?service=x", "service"},
    {PG, "u:hunter2@h/db?=x", "query"},
    {PG, "u:hunter2@h/db?a%20b=x", "parameter"},
    {PG, "h/db?password=hunter2&sslmode=x", "sslmode"},
    {PG, "h/0123456789012345678901234567890123456789012345678901234567890123", "name"},
};

static void refused(void **state)
{
    for (size_t i = 0; i < KL_COUNT(wrongs); i++) {
        const struct wrong *w = &wrongs[i];
        struct kl_endpoint e;
        struct kl_error err = {0};
        int r = kl_endpoint_parse((enum kl_endpoint_kind)w->kind, kl_str(w->rest), NULL, &e, &err);
        if (r != KL_EINVALID || !strstr(err.msg, w->why))
            fail_msg("%s: %d %s, expected \"%s\"", w->rest, r, err.msg, w->why);
        if (strstr(err.msg, "hunter2") || strchr(err.msg, '\n'))
            fail_msg("%s: the message shows it: %s", w->rest, err.msg);
        assert_int_equal(
            kl_endpoint_parse((enum kl_endpoint_kind)w->kind, kl_str(w->rest), NULL, &e, NULL), r);
    }
}

static void files(void **state)
{
    struct kl_store_options o = {.cafile = "/ca", .certfile = "/cert", .keyfile = "/key"};
    struct kl_endpoint e;
    struct kl_error err;
    assert_int_equal(kl_endpoint_parse(KL_ENDPOINT_MYSQL, KL_STR(""), &o, &e, &err), 0);
    assert_string_equal(e.host, "127.0.0.1"); // kine's other default
    assert_int_equal(e.tls, KL_ENDPOINT_TLS_VERIFY);
    assert_string_equal(e.cafile, "/ca");
    assert_string_equal(e.certfile, "/cert");
    assert_string_equal(e.keyfile, "/key");
    kl_endpoint_fini(&e);
    assert_int_equal(
        kl_endpoint_parse(KL_ENDPOINT_POSTGRES, KL_STR("u@h/db?sslrootcert=/mine"), &o, &e, &err),
        0);
    assert_string_equal(e.cafile, "/mine");
    assert_string_equal(e.certfile, "/cert");
    assert_int_equal(e.tls, KL_ENDPOINT_TLS_VERIFY);
    assert_string_equal(e.params[0].value, "verify-full");
    kl_endpoint_fini(&e);
    assert_int_equal(
        kl_endpoint_parse(KL_ENDPOINT_POSTGRES, KL_STR("u@h/db?sslmode=require"), &o, &e, &err), 0);
    assert_string_equal(e.params[0].value, "require");
    kl_endpoint_fini(&e);
    o.keyfile = NULL;
    assert_int_equal(kl_endpoint_parse(KL_ENDPOINT_MYSQL, KL_STR(""), &o, &e, &err), KL_EINVALID);
}

static void timeouts(void **state)
{
    static const struct {
        int kind;
        const char *rest;
        int s;
    } rows[] = {
        {PG, "h/db?connect_timeout=3", 3},     {PG, "h/db?connect_timeout=0", 10},
        {MY, "tcp(h)/db?timeout=5s", 5},       {MY, "tcp(h)/db?timeout=300ms", 1},
        {MY, "tcp(h)/db?timeout=1m30.5s", 91}, {MY, "tcp(h)/db?timeout=0", 10},
    };
    for (size_t i = 0; i < KL_COUNT(rows); i++) {
        struct kl_endpoint e;
        struct kl_error err;
        if (kl_endpoint_parse((enum kl_endpoint_kind)rows[i].kind, kl_str(rows[i].rest), NULL, &e,
                              &err))
            fail_msg("%s: %s", rows[i].rest, err.msg);
        if (e.connect_timeout_s != rows[i].s)
            fail_msg("%s: %d s, expected %d", rows[i].rest, e.connect_timeout_s, rows[i].s);
        kl_endpoint_fini(&e);
    }
}

static void shown(void **state)
{
    static const char *const rows[][2] = {
        {"mysql://u:p@tcp(h:3306)/db", "mysql://u:xxxxx@tcp(h:3306)/db"},
        {"mysql://u:p@s/s@tcp(h:3306)/db?tls=true", "mysql://u:xxxxx@tcp(h:3306)/db?tls=true"},
        {"mysql://u@unix(/s)/db", "mysql://u@unix(/s)/db"},
        {"mysql://tcp(h:3306)/db", "mysql://tcp(h:3306)/db"},
        {"mysql://tcp([::1]:3306)/db", "mysql://tcp([::1]:3306)/db"},
        {"faulty+postgres://u:p@h/db?sslmode=disable",
         "faulty+postgres://u:xxxxx@h/db?sslmode=disable"},
        {"postgres://u:p/x?y@h/db", "postgres://u:xxxxx@h/db"},
        {"postgres://u:p", "postgres://u:xxxxx"},
        {"postgres://h:5432/db", "postgres://h:5432/db"},
        {"postgres://[::1]:5432/db", "postgres://[::1]:5432/db"},
        {"postgres://[::1]/db", "postgres://[::1]/db"},
        {"postgres://a:1,b:2/db", "postgres://a:1,b:2/db"},
        {"postgres://h/db?user=u&password=p&sslpassword=q&a=b",
         "postgres://h/db?user=u&password=xxxxx&sslpassword=xxxxx&a=b"},
        {"etcd://h:2379", "etcd://h:2379"},
        {"sqlite:///a:b@c?_journal=WAL", "sqlite:///a:b@c?_journal=WAL"},
        {"u:p@tcp(h)/db", "u:xxxxx@tcp(h)/db"},
        {"postgres://", "postgres://"},
        {"", ""},
        {"postgres:///db?a=b:c@d&password=e", "postgres:///db?a=b:xxxxx&password=xxxxx"},
        {"postgres:///db?password=a:b@c", "postgres:///db?password=xxxxxxxxxx"},
    };
    for (size_t i = 0; i < KL_COUNT(rows); i++) {
        char b[128];
        if (strcmp(kl_endpoint_redact(rows[i][0], b, sizeof(b)), rows[i][1]) != 0)
            fail_msg("%s: shown as %s, expected %s", rows[i][0], b, rows[i][1]);
    }
    char small[8];
    assert_string_equal(kl_endpoint_redact("mysql://u:p@h/db", small, sizeof(small)), "mysql:/");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(taken_apart), cmocka_unit_test(refused), cmocka_unit_test(files),
        cmocka_unit_test(timeouts),    cmocka_unit_test(shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
