// SPDX-License-Identifier: Apache-2.0
#include "store/transfer/kine.h"
#include "store/sql/driver.h"
#include "store/sql/endpoint.h"
#include "store/store.h"
#include "base/str.h"
#include <stdio.h>
#include <stdlib.h>

enum { MAX_RECORDS = 16 << 20 };

void kl_kine_records_init(struct kl_kine_records *r)
{
    *r = (struct kl_kine_records){.n = 0};
    kl_arena_init(&r->arena, MAX_RECORDS);
}

int kl_kine_records_add(struct kl_kine_records *r, struct kl_str key, struct kl_str value)
{
    if (r->n == r->cap) {
        size_t cap = r->cap ? r->cap * 2 : 16;
        struct kl_kine_record *v = realloc(r->v, cap * sizeof(*v));
        if (!v)
            return KL_ENOMEM;
        r->v = v;
        r->cap = cap;
    }
    struct kl_kine_record *rec = &r->v[r->n];
    *rec = (struct kl_kine_record){kl_arena_dup(&r->arena, key), kl_arena_dup(&r->arena, value)};
    if (!rec->key.p || !rec->value.p)
        return KL_ENOMEM;
    r->n++;
    return 0;
}

void kl_kine_records_fini(struct kl_kine_records *r)
{
    free(r->v);
    kl_arena_fini(&r->arena);
}

static int give_back_sql(const struct kl_sql_driver *d, struct kl_str rest,
                         const struct kl_store_options *o, struct kl_error *err)
{
    static const struct kl_store_options none;
    struct kl_endpoint ep = {0};
    int r = kl_endpoint_parse(d->kind, rest, o ? o : &none, &ep, err);
    if (!r)
        r = kl_kine_give_back_sql(d, &ep, err);
    kl_endpoint_fini(&ep);
    return r;
}

int kl_kine_give_back(const char *url, const struct kl_store_options *o, struct kl_error *err)
{
    static const struct {
        const char *scheme;
        const struct kl_sql_driver *driver; // NULL: a file
    } schemes[] = {{"sqlite://", NULL},
                   {"postgres://", &kl_sql_postgres},
                   {"postgresql://", &kl_sql_postgres},
                   {"mysql://", &kl_sql_mysql},
                   {"mariadb://", &kl_sql_mysql}};
    struct kl_str s = kl_str(url);
    char name[512], path[4096];
    for (size_t i = 0; i < KL_COUNT(schemes); i++) {
        if (!kl_str_starts(s, kl_str(schemes[i].scheme)))
            continue;
        s = kl_str_from(s, strlen(schemes[i].scheme));
        if (schemes[i].driver)
            return give_back_sql(schemes[i].driver, s, o, err);
        ptrdiff_t query = kl_str_chr(s, '?');
        snprintf(path, sizeof(path), "%.*s", query >= 0 ? (int)query : (int)s.n, s.p);
        return kl_kine_give_back_sqlite(path, err);
    }
    return kl_error_set(err, KL_EUNSUPPORTED,
                        "datastore %s: kine has no such datastore; migrate it to sqlite://, "
                        "postgres:// or mysql:// first",
                        kl_endpoint_redact(url, name, sizeof(name)));
}
